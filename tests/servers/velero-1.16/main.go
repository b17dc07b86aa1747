// Velero's server and command line, built from its Go module: the peer that the tests prove compatibility with and the
// bench compares against.
package main

import (
	"os"
	"path/filepath"

	"k8s.io/klog/v2"

	velero "github.com/vmware-tanzu/velero/pkg/cmd/velero"
)

func main() {
	defer klog.Flush()
	if err := velero.NewCommand(filepath.Base(os.Args[0])).Execute(); err != nil {
		os.Exit(1)
	}
}
