// Velero's server and command line, built from its Go module: the peer that the tests prove compatibility with and the
// bench compares against.
package main

import (
	"os"
	"path/filepath"

	"k8s.io/klog/v2"
	metrics "sigs.k8s.io/controller-runtime/pkg/metrics/server"

	velero "github.com/vmware-tanzu/velero/pkg/cmd/velero"
)

func main() {
	defer klog.Flush()
	// Velero serves these metrics on port 8080 of all addresses and has no flag for it, so a second Velero on the machine
	// would not start. Its own metrics, which have a flag, stay.
	metrics.DefaultBindAddress = "0"
	if err := velero.NewCommand(filepath.Base(os.Args[0])).Execute(); err != nil {
		os.Exit(1)
	}
}
