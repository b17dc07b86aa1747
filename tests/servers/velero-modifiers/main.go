// Velero's resource modifiers as a filter: the peer of the differential test, and the source of the table of merge keys.
//
// The name of this module lies below Velero's, because Go lets nobody else import Velero's internal packages.
//
// Each line of standard input is {"rules": YAML, "groupResource": "deployments.apps", "object": {...}}; each line of the
// output {"invalid": "..."} when the rules are refused as a whole, else {"object": {...}, "errors": [...]}. With the
// argument merge-keys it prints how the types of Velero's scheme merge their lists, and ends.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"reflect"
	"sort"
	"strings"

	"github.com/sirupsen/logrus"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/vmware-tanzu/velero/internal/resourcemodifiers"
	"github.com/vmware-tanzu/velero/pkg/client"
)

// scheme is the one that Velero's server hands to its modifiers.
func scheme() *runtime.Scheme {
	factory := client.NewFactory("test", client.VeleroConfig{})
	os.Setenv("KUBECONFIG", kubeconfig())
	defer os.Remove(os.Getenv("KUBECONFIG"))
	made, err := factory.KubebuilderClient()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	return made.Scheme()
}

// kubeconfig names a server that nobody ever asks.
func kubeconfig() string {
	file, err := os.CreateTemp("", "kubeconfig")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	defer file.Close()
	fmt.Fprint(file, `{"apiVersion":"v1","kind":"Config","current-context":"x",
"clusters":[{"name":"x","cluster":{"server":"http://127.0.0.1:1"}}],
"contexts":[{"name":"x","context":{"cluster":"x","user":"x"}}],"users":[{"name":"x","user":{}}]}`)
	return file.Name()
}

type question struct {
	Rules         string         `json:"rules"`
	GroupResource string         `json:"groupResource"`
	Object        map[string]any `json:"object"`
}

type answer struct {
	Invalid string         `json:"invalid,omitempty"`
	Object  map[string]any `json:"object,omitempty"`
	Errors  []string       `json:"errors,omitempty"`
}

func ask(line []byte, scheme *runtime.Scheme, log logrus.FieldLogger) (reply answer) {
	// Some patches that make no sense bring the library down; Velero's server goes down with it.
	defer func() {
		if fault := recover(); fault != nil {
			reply = answer{Errors: []string{fmt.Sprint("panic: ", fault)}}
		}
	}()
	asked := question{}
	object := &unstructured.Unstructured{}
	var raw struct {
		Object json.RawMessage `json:"object"`
	}
	if err := json.Unmarshal(line, &asked); err != nil {
		return answer{Invalid: err.Error()}
	}
	if err := json.Unmarshal(line, &raw); err != nil {
		return answer{Invalid: err.Error()}
	}
	config := &corev1.ConfigMap{Data: map[string]string{"rules": asked.Rules}}
	modifiers, err := resourcemodifiers.GetResourceModifiersFromConfig(config)
	if err == nil {
		err = modifiers.Validate()
	}
	if err != nil {
		return answer{Invalid: err.Error()}
	}
	if err := object.UnmarshalJSON(raw.Object); err != nil {
		return answer{Invalid: err.Error()}
	}
	for _, err := range modifiers.ApplyResourceModifierRules(object, asked.GroupResource, scheme, log) {
		reply.Errors = append(reply.Errors, err.Error())
	}
	reply.Object = object.Object
	return reply
}

func main() {
	scheme := scheme()
	if len(os.Args) > 1 && os.Args[1] == "merge-keys" {
		printMergeKeys(scheme)
		return
	}
	log := logrus.New()
	log.SetOutput(io.Discard)
	lines := bufio.NewScanner(os.Stdin)
	lines.Buffer(nil, 64<<20)
	out := bufio.NewWriter(os.Stdout)
	for lines.Scan() {
		reply, err := json.Marshal(ask(lines.Bytes(), scheme, log))
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		out.Write(append(reply, '\n'))
		out.Flush()
	}
}

// field is a field that the table must know: it has a strategy, or something below it has.
type field struct{ name, child, strategy, key string }

type table struct {
	types map[reflect.Type][]field
}

func typeName(t reflect.Type) string {
	parts := strings.Split(t.PkgPath(), "/")
	if len(parts) > 2 {
		parts = parts[len(parts)-2:]
	}
	return strings.Join(parts, "/") + "." + t.Name()
}

// within is the struct inside pointers, lists and the values of maps.
func within(t reflect.Type) reflect.Type {
	for t.Kind() == reflect.Pointer || t.Kind() == reflect.Slice || t.Kind() == reflect.Array {
		t = t.Elem()
	}
	return t
}

func (t *table) add(of reflect.Type) {
	if _, known := t.types[of]; known || of.Kind() != reflect.Struct {
		return
	}
	t.types[of] = nil
	var fields []field
	for i := 0; i < of.NumField(); i++ {
		member := of.Field(i)
		name := strings.Split(member.Tag.Get("json"), ",")[0]
		child := within(member.Type)
		if name == "-" {
			continue
		}
		t.add(child)
		if name == "" {
			if member.Anonymous {
				fields = append(fields, t.types[child]...)
			}
			continue
		}
		strategy := ""
		for _, word := range strings.Split(member.Tag.Get("patchStrategy"), ",") {
			if word != "retainKeys" {
				strategy = word
			}
		}
		childName := ""
		if child.Kind() == reflect.Struct {
			childName = typeName(child)
		}
		fields = append(fields, field{name, childName, strategy, member.Tag.Get("patchMergeKey")})
	}
	t.types[of] = fields
}

// prune leaves fields out that lead to no strategy, until nothing more goes.
func (t *table) prune() {
	for {
		leads := map[string]bool{}
		for of, fields := range t.types {
			leads[typeName(of)] = leads[typeName(of)] || len(fields) > 0
		}
		changed := false
		for of, fields := range t.types {
			var kept []field
			for _, f := range fields {
				if f.child != "" && !leads[f.child] {
					f.child = ""
				}
				if f.strategy != "" || f.child != "" {
					kept = append(kept, f)
				}
			}
			changed = changed || len(kept) != len(fields)
			t.types[of] = kept
		}
		if !changed {
			return
		}
	}
}

func printMergeKeys(scheme *runtime.Scheme) {
	t := &table{types: map[reflect.Type][]field{}}
	kinds := map[string]string{}
	for gvk, of := range scheme.AllKnownTypes() {
		if gvk.Version == runtime.APIVersionInternal {
			continue
		}
		object := reflect.PointerTo(of)
		_, isList := of.FieldByName("Items")
		if isList || !object.Implements(reflect.TypeFor[metav1.Object]()) {
			continue
		}
		t.add(of)
		version, kind := gvk.ToAPIVersionAndKind()
		kinds[version+" "+kind] = typeName(of)
	}
	t.prune()
	var lines []string
	for words, of := range kinds {
		lines = append(lines, "kind "+words+" "+of)
	}
	seen := map[string]bool{}
	for of, fields := range t.types {
		if len(fields) == 0 {
			continue
		}
		line := "type " + typeName(of)
		for _, f := range fields {
			line += " " + strings.Join([]string{f.name, f.child, f.strategy, f.key}, ":")
		}
		if !seen[line] {
			seen[line] = true
			lines = append(lines, line)
		}
	}
	sort.Strings(lines)
	fmt.Println("# How Velero's scheme merges lists: kinds with their types, types with the fields that lead to a strategy")
	fmt.Println("# (name:type:strategy:merge key). Printed by tests/servers/velero-modifiers; a test compares it.")
	for _, line := range lines {
		fmt.Println(line)
	}
}
