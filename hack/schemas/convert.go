package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"k8s.io/client-go/discovery"
)

const refPrefix = "#/definitions/"

// awaitOwnKinds asks until the document holds Caly's kinds: the API server adds a CRD's schema a little after the CRD.
func awaitOwnKinds(ctx context.Context, client *discovery.DiscoveryClient) ([]byte, error) {
	for range 60 {
		document, err := client.RESTClient().Get().AbsPath(
			"/openapi/v2",
		).SetHeader("Accept", "application/json").Do(ctx).Raw()
		if err != nil {
			return nil, fmt.Errorf("read the API server's OpenAPI document: %w", err)
		}
		if bytes.Contains(document, []byte("dev.caly.voice.v1alpha1.Tenant")) &&
			bytes.Contains(document, []byte("dev.caly.voice.v1alpha1.CallRecording")) {
			return document, nil
		}
		time.Sleep(500 * time.Millisecond)
	}
	return nil, fmt.Errorf("the API server has not published the schemas of Caly's CRDs within 30 s")
}

// convert makes one self-contained schema of each kind: the kind's own definition and all that it refers to.
func convert(document []byte) (map[string]any, error) {
	var doc struct {
		Definitions map[string]map[string]any `json:"definitions"`
	}
	if err := json.Unmarshal(document, &doc); err != nil {
		return nil, fmt.Errorf("read the OpenAPI document: %w", err)
	}
	kinds := map[string]any{}
	for name, def := range doc.Definitions {
		for _, gvk := range gvks(def) {
			kinds[fileName(gvk[0], gvk[1], gvk[2])] = name
		}
	}
	for _, def := range doc.Definitions {
		tighten(def)
	}
	for name, fix := range scalars {
		if _, ok := doc.Definitions[name]; ok {
			doc.Definitions[name] = fix
		}
	}
	for file, name := range kinds {
		needed := map[string]any{}
		collect(refPrefix+name.(string), doc.Definitions, needed)
		kinds[file] = map[string]any{"$ref": refPrefix + name.(string), "definitions": needed}
	}
	return kinds, nil
}

// scalars that OpenAPI calls strings and that may be numbers too.
var scalars = map[string]map[string]any{
	"io.k8s.apimachinery.pkg.api.resource.Quantity":                 {"type": []string{"string", "number"}},
	"io.k8s.apimachinery.pkg.util.intstr.IntOrString":               {"type": []string{"string", "integer"}},
	"io.k8s.apimachinery.pkg.apis.meta.v1.Time":                     {"type": []string{"string", "null"}},
	"io.k8s.apimachinery.pkg.apis.meta.v1.FieldsV1":                 {"type": "object"},
	"io.k8s.apimachinery.pkg.runtime.RawExtension":                  {"type": "object"},
	"io.k8s.apimachinery.pkg.apis.meta.v1.MicroTime":                {"type": []string{"string", "null"}},
	"io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSON": {},
}

func gvks(def map[string]any) [][3]string {
	list, _ := def["x-kubernetes-group-version-kind"].([]any)
	var out [][3]string
	for _, item := range list {
		m, _ := item.(map[string]any)
		kind, _ := m["kind"].(string)
		group, _ := m["group"].(string)
		version, _ := m["version"].(string)
		// kubeconform names files by the first label of the group.
		group, _, _ = strings.Cut(group, ".")
		out = append(out, [3]string{kind, group, version})
	}
	return out
}

// tighten refuses fields that an object does not name, everywhere below node, as the API server's strict validation does.
func tighten(node any) {
	switch n := node.(type) {
	case []any:
		for _, item := range n {
			tighten(item)
		}
	case map[string]any:
		properties, isObject := n["properties"].(map[string]any)
		_, open := n["additionalProperties"]
		if isObject && !open && n["x-kubernetes-preserve-unknown-fields"] != true {
			n["additionalProperties"] = false
		}
		for _, p := range properties {
			tighten(p)
		}
		tighten(n["items"])
		tighten(n["additionalProperties"])
	}
}

// collect gathers the definition behind ref, and those behind the refs in it.
func collect(ref string, all map[string]map[string]any, into map[string]any) {
	name, ok := strings.CutPrefix(ref, refPrefix)
	if _, known := into[name]; !ok || known {
		return
	}
	into[name] = all[name]
	walk(all[name], func(ref string) { collect(ref, all, into) })
}

func walk(node any, found func(ref string)) {
	switch n := node.(type) {
	case []any:
		for _, item := range n {
			walk(item, found)
		}
	case map[string]any:
		for key, value := range n {
			if ref, ok := value.(string); ok && key == "$ref" {
				found(ref)
				continue
			}
			walk(value, found)
		}
	}
}
