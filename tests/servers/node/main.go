// What a node runs besides its container runtime: kubelet and kube-proxy; and the relay that lets the two sides of a
// network namespace talk. Apart from the binary of the control plane, so that who starts no node does not build this.
// The component is the name by which the binary is called, else the first argument; the rest are that component's own
// flags. Without CGO: then nearly all packages are already built for the control plane.
//
// How go.mod came about: as that of ../kubernetes, see there.
package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
	"k8s.io/component-base/cli"
	_ "k8s.io/component-base/logs/json/register"
	_ "k8s.io/component-base/metrics/prometheus/clientgo"
	_ "k8s.io/component-base/metrics/prometheus/version"
	proxy "k8s.io/kubernetes/cmd/kube-proxy/app"
	kubelet "k8s.io/kubernetes/cmd/kubelet/app"
)

func main() {
	component := filepath.Base(os.Args[0])
	if component == "node" {
		if len(os.Args) < 2 {
			fmt.Fprintln(os.Stderr, "usage: node kubelet|kube-proxy|relay [flags]")
			os.Exit(2)
		}
		component = os.Args[1]
		os.Args = os.Args[1:]
	}
	var command *cobra.Command
	switch component {
	case "kubelet":
		command = kubelet.NewKubeletCommand(context.Background())
	case "kube-proxy":
		command = proxy.NewProxyCommand()
	case "relay":
		if err := relay(os.Args[1:]); err != nil {
			fmt.Fprintln(os.Stderr, "relay:", err)
			os.Exit(1)
		}
		return
	default:
		fmt.Fprintf(os.Stderr, "unknown component %q\n", component)
		os.Exit(2)
	}
	os.Exit(cli.Run(command))
}

// relay FROM TO: whoever connects to FROM is connected to TO. An address is tcp:HOST:PORT or unix:PATH; FROM may be
// "stdin", a listening socket that was inherited. Such a socket stays in the network namespace where it was made, and
// the path of a unix socket is found from every namespace: one process on either side is enough for any direction.
func relay(arguments []string) error {
	if len(arguments) != 2 {
		return fmt.Errorf("usage: relay stdin|tcp:HOST:PORT|unix:PATH tcp:HOST:PORT|unix:PATH")
	}
	var listener net.Listener
	var err error
	if arguments[0] == "stdin" {
		listener, err = net.FileListener(os.Stdin)
	} else {
		network, address, _ := strings.Cut(arguments[0], ":")
		listener, err = net.Listen(network, address)
	}
	if err != nil {
		return err
	}
	network, address, _ := strings.Cut(arguments[1], ":")
	for {
		near, err := listener.Accept()
		if err != nil {
			return err
		}
		go func() {
			far, err := net.Dial(network, address)
			if err != nil {
				fmt.Fprintln(os.Stderr, "relay:", err)
				near.Close()
				return
			}
			defer far.Close()
			defer near.Close()
			done := make(chan struct{})
			go func() {
				pass(near, far)
				close(done)
			}()
			pass(far, near)
			<-done
		}()
	}
}

// pass copies one direction to its end and says so to the other side, which may still have something to answer.
func pass(from, to net.Conn) {
	_, err := io.Copy(to, from)
	if half, ok := to.(interface{ CloseWrite() error }); ok && err == nil {
		half.CloseWrite()
		return
	}
	from.Close()
	to.Close()
}
