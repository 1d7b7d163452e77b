package exotel

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// flattenAny spells nested JSON as a form would, by the tokens of encoding/json. A name may have several values.
func flattenAny(d *json.Decoder, into map[string][]string, name string) error {
	token, err := d.Token()
	if err != nil {
		return err
	}
	kind, nested := token.(json.Delim)
	switch {
	case token == nil:
	case !nested:
		into[name] = append(into[name], fmt.Sprint(token))
	default:
		for i := 0; d.More(); i++ {
			member := any(i)
			if kind == '{' {
				if member, err = d.Token(); err != nil {
					return err
				}
			}
			inner := fmt.Sprint(member)
			if name != "" || kind == '[' {
				inner = fmt.Sprintf("%s[%s]", name, inner)
			}
			if err := flattenAny(d, into, inner); err != nil {
				return err
			}
		}
		_, err = d.Token()
	}
	return err
}

// distinctValues sorts the values of each name, without those that say nothing where another one does.
func distinctValues(all map[string][]string) {
	for name, values := range all {
		slices.Sort(values)
		all[name] = slices.Compact(values)
		if some := slices.DeleteFunc(slices.Clone(all[name]), func(s string) bool {
			return isNothing(strings.TrimSpace(s))
		}); len(some) > 0 {
			all[name] = some
		} else {
			all[name] = nil
		}
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
		in.distinct()
		got := map[string][]string{}
		want := map[string][]string{}
		for name, value := range in.params {
			got[name] = append(got[name], value)
		}
		for _, t := range in.repeated {
			got[t.name] = append(got[t.name], t.value)
		}
		decoder := json.NewDecoder(bytes.NewReader(body))
		decoder.UseNumber()
		if err := flattenAny(decoder, want, ""); err != nil {
			t.Fatalf("%q is read, and encoding/json says %v", body, err)
		}
		distinctValues(got)
		distinctValues(want)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatalf("%q (-encoding/json +read):\n%s", body, diff)
		}
	})
}
