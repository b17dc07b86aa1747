// One binary with every Kubernetes component that the tests start. The component is the name by which the binary is
// called (links named kubectl, etcd, kube-apiserver and so on lie beside it), else the first argument; the rest are that
// component's own flags. Built from the published Go modules because no registry serves ready binaries.
//
// How go.mod came about: k8s.io/kubernetes requires each staging module at v0.0.0 and replaces it by a folder of its own
// repository, which no other module can use. So go.mod holds `require k8s.io/kubernetes v1.34.4` and, for each of those
// 31 replacements in its go.mod, the line `replace k8s.io/X => k8s.io/X v0.34.4`; `go get k8s.io/kubectl@v0.34.4` and
// `go mod tidy` did the rest. tests/src/servers.rs knows the flags of the build.
package main

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"
	"go.etcd.io/etcd/server/v3/etcdmain"
	"k8s.io/component-base/cli"
	_ "k8s.io/component-base/logs/json/register"
	kubectl "k8s.io/kubectl/pkg/cmd"
	apiserver "k8s.io/kubernetes/cmd/kube-apiserver/app"
	controllermanager "k8s.io/kubernetes/cmd/kube-controller-manager/app"
	scheduler "k8s.io/kubernetes/cmd/kube-scheduler/app"
)

func main() {
	component := filepath.Base(os.Args[0])
	if component == "kubernetes" {
		if len(os.Args) < 2 {
			fmt.Fprintln(os.Stderr, "usage: kubernetes etcd|kube-apiserver|kube-controller-manager|kube-scheduler|kubectl [flags]")
			os.Exit(2)
		}
		component = os.Args[1]
		os.Args = os.Args[1:]
	}
	var command *cobra.Command
	switch component {
	case "etcd":
		etcdmain.Main(os.Args)
		return
	case "kube-apiserver":
		command = apiserver.NewAPIServerCommand()
	case "kube-controller-manager":
		command = controllermanager.NewControllerManagerCommand()
	case "kube-scheduler":
		command = scheduler.NewSchedulerCommand()
	case "kubectl":
		command = kubectl.NewDefaultKubectlCommand()
	default:
		fmt.Fprintf(os.Stderr, "unknown component %q\n", component)
		os.Exit(2)
	}
	os.Exit(cli.Run(command))
}
