// Cluster API's side of its runtime hooks, with its own catalogue of paths and its own types: the peer of the test of our
// extension. Arguments: base URL, file with the authorities, name of the server. Standard input is a list of clusters;
// standard output has what was discovered, and for each cluster the answer of its BeforeClusterDelete hook.
package main

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"time"

	"k8s.io/apimachinery/pkg/util/validation"
	clusterv1 "sigs.k8s.io/cluster-api/api/core/v1beta2"
	"sigs.k8s.io/cluster-api/api/runtime/catalog"
	hooks "sigs.k8s.io/cluster-api/api/runtime/hooks/v1alpha1"
)

type site struct {
	client  *http.Client
	base    string
	catalog *catalog.Catalog
}

// call does what Cluster API does: the path from the catalogue, the kind from the catalogue, strict reading.
func (s *site) call(hook catalog.Hook, name string, request, response any) error {
	gvh, err := s.catalog.GroupVersionHook(hook)
	if err != nil {
		return err
	}
	body, err := json.Marshal(request)
	if err != nil {
		return err
	}
	answer, err := s.client.Post(s.base+catalog.GVHToPath(gvh, name)+"?timeout=10s", "application/json", bytes.NewReader(body))
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(answer.Body)
		return fmt.Errorf("status %d: %s", answer.StatusCode, text)
	}
	reader := json.NewDecoder(answer.Body)
	reader.DisallowUnknownFields()
	return reader.Decode(response)
}

func run() error {
	authorities, err := os.ReadFile(os.Args[2])
	if err != nil {
		return err
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(authorities)
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool, ServerName: os.Args[3]}}
	known := catalog.New()
	if err := hooks.AddToCatalog(known); err != nil {
		return err
	}
	s := &site{&http.Client{Transport: transport, Timeout: 10 * time.Second}, os.Args[1], known}

	var clusters []clusterv1.Cluster
	if err := json.NewDecoder(os.Stdin).Decode(&clusters); err != nil {
		return err
	}
	var found hooks.DiscoveryResponse
	if err := s.call(hooks.Discovery, "", &hooks.DiscoveryRequest{}, &found); err != nil {
		return fmt.Errorf("discovery: %w", err)
	}
	wanted, err := known.GroupVersionHook(hooks.BeforeClusterDelete)
	if err != nil {
		return err
	}
	out := map[string]any{"discovered": found}
	var answers []hooks.BeforeClusterDeleteResponse
	for _, handler := range found.Handlers {
		if problems := validation.IsDNS1123Label(handler.Name); len(problems) > 0 {
			return fmt.Errorf("handler %q: %v", handler.Name, problems)
		}
		if handler.RequestHook.Hook != wanted.Hook || handler.RequestHook.APIVersion != wanted.GroupVersion().String() {
			continue
		}
		for _, cluster := range clusters {
			var answer hooks.BeforeClusterDeleteResponse
			request := &hooks.BeforeClusterDeleteRequest{Cluster: cluster}
			if err := s.call(hooks.BeforeClusterDelete, handler.Name, request, &answer); err != nil {
				return fmt.Errorf("%s of %s: %w", wanted.Hook, cluster.Name, err)
			}
			answers = append(answers, answer)
		}
	}
	out["answers"] = answers
	return json.NewEncoder(os.Stdout).Encode(out)
}

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
