// Velero's server and command line, built from its Go module: the peer that the tests prove compatibility with and the
// bench compares against. Called by the name velero-volumes it is the filter of volumes.go.
//
// The name of this module lies below Velero's, because Go lets nobody else import Velero's internal packages.
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
	name := filepath.Base(os.Args[0])
	if name == "velero-volumes" {
		answerAboutVolumes()
		return
	}
	// Velero serves these metrics on port 8080 of all addresses and has no flag for it, so a second Velero on the machine
	// would not start. Its own metrics, which have a flag, stay.
	metrics.DefaultBindAddress = "0"
	if err := velero.NewCommand(name).Execute(); err != nil {
		os.Exit(1)
	}
}
