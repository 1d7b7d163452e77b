package main

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestConvert(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		document string
		want     map[string]any
		wantErr  bool
	}{
		"not JSON": {document: "{", wantErr: true},
		"a kind with what it refers to, and nothing else": {
			document: `{"definitions": {
				"a.Thing": {"properties": {"spec": {"$ref": "#/definitions/a.Spec"}},
					"x-kubernetes-group-version-kind": [{"group": "a.example.com", "version": "v1", "kind": "Thing"}]},
				"a.Spec": {"properties": {"any": {"type": "object"}}},
				"b.Other": {"type": "string"}}}`,
			want: map[string]any{"thing-a-v1.json": map[string]any{
				"$ref": "#/definitions/a.Thing",
				"definitions": map[string]any{
					"a.Thing": map[string]any{
						"additionalProperties": false,
						"properties":           map[string]any{"spec": map[string]any{"$ref": "#/definitions/a.Spec"}},
						"x-kubernetes-group-version-kind": []any{map[string]any{
							"group":   "a.example.com",
							"version": "v1",
							"kind":    "Thing",
						}},
					},
					"a.Spec": map[string]any{
						"additionalProperties": false,
						"properties":           map[string]any{"any": map[string]any{"type": "object"}},
					},
				},
			}},
		},
		"the core group has no name; open objects stay open; circles end": {
			document: `{"definitions": {"P": {"additionalProperties": {"$ref": "#/definitions/P"}, "properties": {},
				"x-kubernetes-group-version-kind": [{"group": "", "version": "v1", "kind": "Pod"}]}}}`,
			want: map[string]any{"pod-v1.json": map[string]any{
				"$ref": "#/definitions/P",
				"definitions": map[string]any{
					"P": map[string]any{
						"additionalProperties": map[string]any{"$ref": "#/definitions/P"},
						"properties":           map[string]any{},
						"x-kubernetes-group-version-kind": []any{map[string]any{
							"group":   "",
							"version": "v1",
							"kind":    "Pod",
						}},
					}},
			}},
		},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := convert([]byte(tc.document))
			if (err != nil) != tc.wantErr {
				t.Fatalf("error %v, want one: %t", err, tc.wantErr)
			}
			if tc.wantErr {
				return
			}
			got = plain(got)
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("schemas (-want +got):\n%s", diff)
			}
		})
	}
}

// plain turns the named map type of decoded definitions into map[string]any, for comparing.
func plain(files map[string]any) map[string]any {
	for _, f := range files {
		definitions := f.(map[string]any)["definitions"].(map[string]any)
		for k, v := range definitions {
			if m, ok := v.(map[string]any); ok {
				definitions[k] = m
			}
		}
	}
	return files
}
