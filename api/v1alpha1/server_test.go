package v1alpha1_test

import (
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	kyaml "k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/client-go/discovery"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/caly-dev/caly/api/v1alpha1"
	"github.com/caly-dev/caly/internal/testkit/kubetest"
)

func discover(t *testing.T) *discovery.DiscoveryClient {
	t.Helper()
	d, err := discovery.NewDiscoveryClientForConfig(kubetest.Get(t).Config)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// TestDiscovery is what kubectl goes by: "kubectl get caly", "kubectl get tnt".
func TestDiscovery(t *testing.T) {
	list, err := discover(t).ServerResourcesForGroupVersion(v1alpha1.GroupVersion.String())
	if err != nil {
		t.Fatal(err)
	}
	got := map[string][]string{}
	for _, r := range list.APIResources {
		got[r.Name] = append(append([]string{r.Kind}, r.ShortNames...), r.Categories...)
	}
	want := map[string][]string{
		"tenants":               {"Tenant", "tnt", "caly"},
		"tenants/status":        {"Tenant"},
		"callrecordings":        {"CallRecording", "crec", "caly"},
		"callrecordings/status": {"CallRecording"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("kind, short names and categories (-want +got):\n%s", diff)
	}
}

// TestTable is "kubectl get": the cells come from where the columns say.
func TestTable(t *testing.T) {
	env := kubetest.Get(t)
	ns := env.NewNamespace(t)
	tenant := object(t, ns, minimalTenant, nil)
	recording := object(t, ns, minimalRecording, nil)
	for _, o := range []client.Object{tenant, recording} {
		if err := create(t, o); err != nil {
			t.Fatal(err)
		}
	}
	const since = "2026-01-02T03:04:05Z"
	ready := []any{map[string]any{
		"type":               "Ready",
		"status":             "False",
		"reason":             "SecretNotFound",
		"message":            "create it",
		"lastTransitionTime": since,
	}}
	suspended := map[string]any{
		"type":               "Suspended",
		"status":             "True",
		"reason":             "PlatformSuspended",
		"message":            "unpaid",
		"lastTransitionTime": since,
	}
	tenant.Object["status"] = map[string]any{"backlog": int64(7), "conditions": append(ready, suspended)}
	recording.Object["status"] = map[string]any{
		"phase":      "Failed",
		"attempts":   int64(3),
		"conditions": ready,
		"object":     map[string]any{"bucket": "acme", "key": "acme/k.mp3", "size": int64(11), "sha256": sha256hex},
	}
	for _, o := range []client.Object{tenant, recording} {
		if err := env.Client.Status().Update(t.Context(), o); err != nil {
			t.Fatal(err)
		}
	}
	want := map[string]map[string]any{
		"tenants": {
			"Name":      "support",
			"Ready":     "False",
			"Reason":    "SecretNotFound",
			"Suspended": "PlatformSuspended",
			"Bucket":    "acme-recordings",
			"Backlog":   float64(7),
			"Message":   "create it",
		},
		"callrecordings": {
			"Name":     "by-hand",
			"Tenant":   "support",
			"Call":     "b6cf1d1c6ec8f9b1",
			"Phase":    "Failed",
			"Attempts": float64(3),
			"Size":     float64(11),
			"Key":      "acme/k.mp3",
			"Message":  "create it",
		},
	}
	for resource, cells := range want {
		got := table(t, ns, resource)
		if got["Age"] == nil {
			t.Errorf("%s: no age", resource)
		}
		delete(got, "Age")
		if diff := cmp.Diff(cells, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", resource, diff)
		}
	}
}

const sha256hex = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

// table returns the cells of the only row.
func table(t *testing.T, namespace, resource string) map[string]any {
	t.Helper()
	data, err := discover(t).RESTClient().Get().AbsPath(
		"/apis", v1alpha1.GroupVersion.Group, v1alpha1.GroupVersion.Version, "namespaces", namespace, resource,
	).
		SetHeader("Accept", "application/json;as=Table;v=v1;g=meta.k8s.io").Do(t.Context()).Raw()
	if err != nil {
		t.Fatal(err)
	}
	var table metav1.Table
	if err := json.Unmarshal(data, &table); err != nil {
		t.Fatal(err)
	}
	if len(table.Rows) != 1 {
		t.Fatalf("%d rows, want 1", len(table.Rows))
	}
	cells := map[string]any{}
	for i, c := range table.ColumnDefinitions {
		cells[c.Name] = table.Rows[0].Cells[i]
	}
	return cells
}

func TestFieldSelectors(t *testing.T) {
	env := kubetest.Get(t)
	ns := env.NewNamespace(t)
	for name, phase := range map[string]string{"one": "Uploaded", "two": "Failed", "three": "Failed"} {
		obj := object(t, ns, minimalRecording, fields{"metadata.name": name, "spec.callSID": "call-" + name})
		if err := create(t, obj); err != nil {
			t.Fatal(err)
		}
		obj.Object["status"] = map[string]any{"phase": phase}
		if err := env.Client.Status().Update(t.Context(), obj); err != nil {
			t.Fatal(err)
		}
	}
	for name, tc := range map[string]struct {
		selector client.MatchingFields
		want     int
	}{
		"a call":             {client.MatchingFields{"spec.callSID": "call-two"}, 1},
		"failed":             {client.MatchingFields{"status.phase": "Failed"}, 2},
		"a call, if failed":  {client.MatchingFields{"spec.callSID": "call-one", "status.phase": "Failed"}, 0},
		"in no such phase":   {client.MatchingFields{"status.phase": "Pending"}, 0},
		"not yet looked at":  {client.MatchingFields{"status.phase": ""}, 0},
		"by name and phase":  {client.MatchingFields{"metadata.name": "one", "status.phase": "Uploaded"}, 1},
		"everything of a ns": {client.MatchingFields{}, 3},
	} {
		t.Run(name, func(t *testing.T) {
			var list v1alpha1.CallRecordingList
			if err := env.Client.List(t.Context(), &list, client.InNamespace(ns), tc.selector); err != nil {
				t.Fatal(err)
			}
			if len(list.Items) != tc.want {
				t.Errorf("%d CallRecordings, want %d", len(list.Items), tc.want)
			}
		})
	}
	t.Run("a field that is not selectable", func(t *testing.T) {
		err := env.Client.List(
			t.Context(),
			&v1alpha1.CallRecordingList{},
			client.InNamespace(ns),
			client.MatchingFields{"spec.sourceURL": "x"},
		)
		if !apierrors.IsBadRequest(err) {
			t.Errorf("got %v, want a refusal", err)
		}
	})
}

// TestSamples applies what the documentation tells people to apply, to a server that knows every field.
func TestSamples(t *testing.T) {
	files, err := filepath.Glob(filepath.Join(kubetest.Root(), "config/samples/*.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	admitted := map[string]int{}
	// Namespaces first: in the order of their names they come after what they hold.
	for _, namespaces := range []bool{true, false} {
		for _, file := range files {
			for _, o := range documents(t, file) {
				if o.GetKind() == "Kustomization" || (o.GetKind() == "Namespace") != namespaces {
					continue
				}
				if err := strict(t).Create(t.Context(), o); err != nil {
					t.Errorf("%s: %v", filepath.Base(file), err)
					continue
				}
				admitted[o.GetKind()]++
			}
		}
	}
	if diff := cmp.Diff(map[string]int{"Namespace": 2, "Tenant": 2, "CallRecording": 1}, admitted); diff != "" {
		t.Errorf("admitted (-want +got):\n%s", diff)
	}
}

func documents(t *testing.T, file string) (list []*unstructured.Unstructured) {
	t.Helper()
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	for dec := kyaml.NewYAMLOrJSONDecoder(f, 4096); ; {
		obj := &unstructured.Unstructured{}
		err := dec.Decode(&obj.Object)
		if errors.Is(err, io.EOF) {
			return list
		}
		if err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		if len(obj.Object) > 0 {
			list = append(list, obj)
		}
	}
}
