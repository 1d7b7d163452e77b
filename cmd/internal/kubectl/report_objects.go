package kubectl

import (
	"context"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"
)

// kind is a kind of objects that a report has. Secrets and ConfigMaps are never read.
type kind struct {
	file  string
	of    schema.GroupVersionKind
	where []string
	// chart chooses the objects of the chart alone.
	chart bool
}

// kindsOf returns the kinds, with the namespaces that they are read in.
func kindsOf(release, uploads string, tenants []string) []kind {
	caly := func(name string) schema.GroupVersionKind {
		return schema.GroupVersionKind{Group: "voice.caly.dev", Version: "v1alpha1", Kind: name}
	}
	of := func(group, version, name string) schema.GroupVersionKind {
		return schema.GroupVersionKind{Group: group, Version: version, Kind: name}
	}
	both := []string{release}
	jobs := []string{}
	if uploads != "" {
		both = append(both, uploads)
		jobs = append(jobs, uploads)
	}
	everywhere := append([]string{}, both...)
	if len(tenants) > 0 && tenants[0] != "" {
		everywhere = append(everywhere, tenants...)
	}
	return []kind{
		{file: "tenants", of: caly("Tenant"), where: tenants},
		{file: "callrecordings", of: caly("CallRecording"), where: tenants},
		{file: "deployments", of: of("apps", "v1", "Deployment"), where: both[:1], chart: true},
		{file: "pods", of: of("", "v1", "Pod"), where: both},
		{file: "jobs", of: of("batch", "v1", "Job"), where: append(both[:1:1], jobs...)},
		{file: "services", of: of("", "v1", "Service"), where: both[:1], chart: true},
		{file: "ingresses", of: of("networking.k8s.io", "v1", "Ingress"), where: both[:1], chart: true},
		{file: "networkpolicies", of: of("networking.k8s.io", "v1", "NetworkPolicy"), where: both},
		{file: "autoscalers", of: of("autoscaling", "v2", "HorizontalPodAutoscaler"), where: both[:1], chart: true},
		{file: "events", of: of("events.k8s.io", "v1", "Event"), where: everywhere},
	}
}

// read returns the objects of a kind as YAML, without what may be secret.
func (c *cluster) read(ctx context.Context, k kind) (string, error) {
	var all []any
	var failed error
	for _, namespace := range k.where {
		list := &unstructured.UnstructuredList{}
		list.SetGroupVersionKind(k.of.GroupVersion().WithKind(k.of.Kind + "List"))
		options := []client.ListOption{client.InNamespace(namespace), client.Limit(maxObjects)}
		if k.chart {
			options = append(options, partOf)
		}
		if err := c.List(ctx, list, options...); err != nil {
			failed = err
			continue
		}
		for i := range list.Items {
			strip(list.Items[i].Object)
			all = append(all, list.Items[i].Object)
		}
	}
	if len(all) == 0 {
		return "", failed
	}
	data, err := yaml.Marshal(map[string]any{"kind": "List", "apiVersion": "v1", "items": all})
	if err != nil {
		return "", err
	}
	return string(data), failed
}

// keptAnnotations are the beginnings of the names of annotations that a report has.
var keptAnnotations = []string{"voice.caly.dev/", "caly.dev/", "helm.sh/", "meta.helm.sh/", "deployment.kubernetes.io/"}

// strip removes from an object what anybody may have written into it, and what a pattern cannot tell from a name: values
// of environment variables, annotations of others, numbers of telephones, addresses with a capability in them.
func strip(object map[string]any) {
	if meta, ok := object["metadata"].(map[string]any); ok {
		delete(meta, "managedFields")
		if annotations, ok := meta["annotations"].(map[string]any); ok {
			for name := range annotations {
				if !kept(name) {
					annotations[name] = redacted
				}
			}
		}
	}
	walkObject(object)
}

func kept(annotation string) bool {
	for _, prefix := range keptAnnotations {
		if strings.HasPrefix(annotation, prefix) {
			return true
		}
	}
	return false
}

// strippedFields are left out wherever they stand.
var strippedFields = map[string]bool{
	"phoneNumbers":  true,
	"headers":       true,
	"httpHeaders":   true,
	"caBundle":      true,
	"bootstrapData": true,
}

// walkObject looks through an object.
func walkObject(value any) {
	switch value := value.(type) {
	case map[string]any:
		for name, field := range value {
			switch {
			case strippedFields[name]:
				value[name] = redacted
			case name == "env":
				stripEnv(field)
			case name == "annotations" || name == "labels":
			default:
				walkObject(field)
			}
		}
		if template, ok := value["template"].(map[string]any); ok {
			if meta, ok := template["metadata"].(map[string]any); ok {
				strip(map[string]any{"metadata": meta})
			}
		}
	case []any:
		for _, item := range value {
			walkObject(item)
		}
	}
}

// stripEnv removes the values of environment variables.
func stripEnv(field any) {
	list, ok := field.([]any)
	if !ok {
		return
	}
	for _, item := range list {
		if variable, ok := item.(map[string]any); ok && variable["value"] != nil {
			variable["value"] = redacted
		}
	}
}
