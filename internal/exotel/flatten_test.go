package exotel

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// flattenAny spells what encoding/json makes of nested JSON as a form would.
func flattenAny(into params, prefix string, v any) {
	switch v := v.(type) {
	case map[string]any:
		for _, k := range slices.Sorted(maps.Keys(v)) {
			key := k
			if prefix != "" {
				key = prefix + "[" + k + "]"
			}
			flattenAny(into, key, v[k])
		}
	case []any:
		for i, e := range v {
			flattenAny(into, fmt.Sprintf("%s[%d]", prefix, i), e)
		}
	case nil:
	case string:
		into[prefix] = v
	default:
		into[prefix] = fmt.Sprint(v)
	}
}

// FuzzFlatten checks that JSON within the bounds has the fields that encoding/json finds.
func FuzzFlatten(f *testing.F) {
	for _, s := range []string{jsonSample, legSample,
		`{"Legs":[{"Status":"busy"}],"Legs[0][Status]":"completed","Legs[0]":{"Status":"failed"}}`,
		`{"a":1.50,"a":{"b":true},"a":[null,2e3]}`, `{"":{"":"x"}}`, `null`, "{\"a\":\"\xff\\ud800\"} x",
		`{"a":{"b":{"c":{"d":{"e":{"f":1}}}}}}`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		in := &input{params: params{}}
		if in.addJSON(body, nil) != nil || in.unread != nil {
			return
		}
		got := in.params
		decoder := json.NewDecoder(bytes.NewReader(body))
		decoder.UseNumber()
		var v map[string]any
		if err := decoder.Decode(&v); err != nil {
			t.Fatalf("%q is read, and encoding/json says %v", body, err)
		}
		want := params{}
		flattenAny(want, "", v)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatalf("%q (-encoding/json +read):\n%s", body, diff)
		}
	})
}
