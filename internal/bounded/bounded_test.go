package bounded_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"net/url"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/caly-dev/caly/internal/bounded"
)

var wide = bounded.Limits{Values: 1 << 20, Depth: 9_000, Text: 1 << 20, Total: 4 << 20}

func text(name, s string) bounded.Value { return bounded.Value{Kind: '"', Name: name, Text: s} }

func TestDocument(t *testing.T) {
	narrow := bounded.Limits{Values: 6, Depth: 2, Text: 4, Total: 12}
	object := func(items ...bounded.Value) bounded.Value { return bounded.Value{Kind: '{', Items: items} }
	for name, tc := range map[string]struct {
		input   string
		only    bounded.Names
		want    bounded.Value
		wantErr error
	}{
		"every kind": {
			input: `{"t":true,"n":null,"0":-1,"s":"x","l":[]}`,
			want: object(bounded.Value{
				Kind: '0',
				Name: "0",
				Text: "-1",
			},
				bounded.Value{
					Kind: '[',
					Name: "l",
				}, bounded.Value{
					Kind: 'n',
					Name: "n",
				}, text("s", "x"), bounded.Value{
					Kind: 't',
					Name: "t",
					Text: "true",
				}),
		},
		"the last of a name": {input: `{"a":{"x":1},"b":"2","a":"3"}`, want: object(text("a", "3"), text("b", "2"))},
		"text after the value": {
			input:   `{"a":"1"} and more`,
			wantErr: bounded.ErrMalformed,
			want:    object(text("a", "1")),
		},
		"blanks after it": {input: "{\"a\":\"1\"} \t\r\n", want: object(text("a", "1"))},
		"escapes":         {input: `{"a":"\u00e9\n"}`, want: object(text("a", "é\n"))},
		"invalid UTF-8":   {input: "{\"a\":\"\xff\"}", want: object(text("a", "\ufffd"))},
		"only some": {
			input: `{"a":"1234","b":{"c":"2","d":"1234","e":{}}}`,
			only:  bounded.Names{"b": {Names: bounded.Names{"c": nil}}},
			want:  object(bounded.Value{Kind: '{', Name: "b", Items: []bounded.Value{text("c", "2")}}),
		},
		"as deep as allowed": {
			input: `[[1]]`,
			want: bounded.Value{
				Kind: '[',
				Items: []bounded.Value{{
					Kind:  '[',
					Items: []bounded.Value{{Kind: '0', Text: "1"}},
				}},
			},
		},
		"too deep": {
			input:   `{"a":[[1]]}`,
			wantErr: bounded.ErrTooDeep,
			want: object(bounded.Value{
				Kind:  '[',
				Name:  "a",
				Items: []bounded.Value{{Kind: '['}},
			}),
		},
		"too many nulls": {
			input:   `[null,null,null,null,null,null]`,
			wantErr: bounded.ErrTooLarge,
			want:    bounded.Value{Kind: '[', Items: slices.Repeat([]bounded.Value{{Kind: 'n'}}, 5)},
		},
		"a long name":   {input: `{"abcde":1}`, wantErr: bounded.ErrTooLarge, want: object()},
		"a long value":  {input: `{"a":"abcde"}`, wantErr: bounded.ErrTooLarge, want: object()},
		"a long number": {input: `{"a":12345}`, wantErr: bounded.ErrTooLarge, want: object()},
		"much text": {
			input:   `["abcd","abcd","abcd","a"]`,
			wantErr: bounded.ErrTooLarge,
			want:    bounded.Value{Kind: '[', Items: slices.Repeat([]bounded.Value{text("", "abcd")}, 3)},
		},
		"cut": {input: `{"a":"1","b":"`, wantErr: bounded.ErrMalformed, want: object(text("a", "1"))},
		"cut in an object": {
			input:   `{"a":{"b":"1",`,
			wantErr: bounded.ErrMalformed,
			want:    object(bounded.Value{Kind: '{', Name: "a", Items: []bounded.Value{text("b", "1")}}),
		},
		"nothing":  {wantErr: bounded.ErrMalformed},
		"no value": {input: `}`, wantErr: bounded.ErrMalformed},
		"the wrong end": {
			input:   `[1}`,
			wantErr: bounded.ErrMalformed,
			want: bounded.Value{
				Kind:  '[',
				Items: []bounded.Value{{Kind: '0', Text: "1"}},
			},
		},
		"a name without quote": {input: `{a:1}`, wantErr: bounded.ErrMalformed, want: object()},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := bounded.Document([]byte(tc.input), narrow, tc.only)
			if !errors.Is(err, tc.wantErr) {
				t.Errorf("error %v, want %v", err, tc.wantErr)
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("value (-want +got):\n%s", diff)
			}
		})
	}
}

func TestForm(t *testing.T) {
	narrow := bounded.Limits{Values: 3, Text: 4, Total: 8}
	for name, tc := range map[string]struct {
		input   string
		only    bounded.Names
		want    []bounded.Pair
		wantErr error
	}{
		"in order": {
			input: "b=1&&a=2&b=%2B+",
			want: []bounded.Pair{{Name: "b", Value: "1"}, {
				Name:  "a",
				Value: "2",
			}, {Name: "b", Value: "+ "}},
		},
		"without a value": {input: "a&=b", want: []bounded.Pair{{Name: "a"}, {Value: "b"}}},
		"empty":           {},
		"only some": {
			input: "abcd=efghijkl&a=1",
			only:  bounded.Names{"a": nil},
			want: []bounded.Pair{{
				Name:  "a",
				Value: "1",
			}},
		},
		"unwanted and broken": {
			input: "a=1&b=%2",
			only:  bounded.Names{"a": nil},
			want: []bounded.Pair{{
				Name:  "a",
				Value: "1",
			}},
			wantErr: bounded.ErrMalformed,
		},
		"too many": {
			input:   "a&a&a&a",
			want:    []bounded.Pair{{Name: "a"}, {Name: "a"}, {Name: "a"}},
			wantErr: bounded.ErrTooLarge,
		},
		"a long name":       {input: "abcde=1", wantErr: bounded.ErrTooLarge},
		"a long value":      {input: "a=abcde", wantErr: bounded.ErrTooLarge},
		"a very long value": {input: "a=" + strings.Repeat("b", 100), wantErr: bounded.ErrTooLarge},
		"much text": {
			input:   "abcd=abcd&a",
			want:    []bounded.Pair{{Name: "abcd", Value: "abcd"}},
			wantErr: bounded.ErrTooLarge,
		},
		"a broken escape": {input: "a=%zz", wantErr: bounded.ErrMalformed},
		"a semicolon":     {input: "a=1;b=2", wantErr: bounded.ErrMalformed},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := bounded.Form(tc.input, narrow, tc.only)
			if !errors.Is(err, tc.wantErr) {
				t.Errorf("error %v, want %v", err, tc.wantErr)
			}
			if diff := cmp.Diff(tc.want, got[:len(got):len(got)]); diff != "" && len(got)+len(tc.want) > 0 {
				t.Errorf("fields (-want +got):\n%s", diff)
			}
		})
	}
}

// TestLenient checks that a lenient reader loses only what it cannot read.
func TestLenient(t *testing.T) {
	narrow := bounded.Limits{Values: 8, Depth: 2, Text: 4, Total: 24, Lenient: true}
	fault := func(name, sent string, err error) bounded.Pair {
		return bounded.Pair{Name: name, Value: sent, Fault: err}
	}
	pair := bounded.Pair{Name: "a", Value: "1"}
	c := bounded.Pair{Name: "c", Value: "3"}
	for input, want := range map[string][]bounded.Pair{
		"a=1&b=%2&c=3":    {pair, fault("b", "%2", bounded.ErrMalformed), c},
		"a=1&b=2;d&c=3":   {pair, fault("b", "2;d", bounded.ErrMalformed), c},
		"a=1&%zz=2&c=3":   {pair, fault("%zz", "2", bounded.ErrMalformed), c},
		"a=1&b=12345&c=3": {pair, fault("b", "", bounded.ErrTooLarge), c},
		"a=1&b=" + strings.Repeat("x", 99) + "&c=3": {pair, fault("b", "", bounded.ErrTooLarge), c},
		"a=1&bbbbb=1&c=3": {pair, fault("bbbbb", "1", bounded.ErrTooLarge), c},
	} {
		got, err := bounded.Form(input, narrow, nil)
		if diff := cmp.Diff(want, got, cmpopts.EquateErrors()); diff != "" || err != nil {
			t.Errorf("%s: %v, fields (-want +got):\n%s", input, err, diff)
		}
	}
	number := func(name, s string) bounded.Value { return bounded.Value{Kind: '0', Name: name, Text: s} }
	for input, want := range map[string][]bounded.Value{
		`{"a":1,"b":"12345","c":3}`: {number("a", "1"), {Kind: '"', Name: "b", Fault: bounded.ErrTooLarge},
			number("c", "3")},
		`{"a":1,"bbbbb":[1],"c":3}`: {{Kind: '[', Fault: bounded.ErrTooLarge}, number("a", "1"), number("c", "3")},
		`{"b":[[[[1]]],2],"c":3}`: {{
			Kind: '[',
			Name: "b",
			Items: []bounded.Value{{
				Kind:  '[',
				Items: []bounded.Value{{Kind: '[', Fault: bounded.ErrTooDeep}},
			}, number("", "2")},
		}, number("c", "3")},
	} {
		got, err := bounded.Document([]byte(input), narrow, nil)
		if diff := cmp.Diff(want, got.Items, cmpopts.EquateErrors()); diff != "" || err != nil {
			t.Errorf("%s: %v, members (-want +got):\n%s", input, err, diff)
		}
	}
	for _, input := range []string{"a&a&a&a&a&a&a&a&a", strings.Repeat("aaaa=aaaa&", 4)} {
		if _, err := bounded.Form(input, narrow, nil); !errors.Is(err, bounded.ErrTooLarge) {
			t.Errorf("%s: error %v, want that it is too large", input, err)
		}
	}
	for _, input := range []string{`[1,2,3,4,5,6,7,8]`, `["aaaa","aaaa","aaaa","aaaa","aaaa","aaaa","a"]`} {
		if _, err := bounded.Document([]byte(input), narrow, nil); !errors.Is(err, bounded.ErrTooLarge) {
			t.Errorf("%s: error %v, want that it is too large", input, err)
		}
	}
}

// TestMemory checks that hostile input of 1 MiB leaves little in memory.
func TestMemory(t *testing.T) {
	limits := bounded.Limits{Values: 2048, Depth: 6, Text: 64 << 10, Total: 256 << 10}
	fill := func(s string) string { return strings.Repeat(s, 1<<20/len(s)) }
	for name, input := range map[string]string{
		"objects":       `{"a":[` + fill(`{"":0},`),
		"lists":         fill(`[`),
		"deep objects":  fill(`{"a":`),
		"numbers":       `[` + fill(`0,`),
		"names":         `{` + fill(`"a":0,`),
		"one string":    `{"a":"` + fill(`b`) + `"}`,
		"escapes":       `["` + fill(`\u00e9`) + `"]`,
		"invalid UTF-8": `["` + fill("\xff") + `"]`,
		"fields":        fill("a&"),
		"escaped":       fill("%61=%62&"),
		"one field":     "a=" + fill("%62"),
	} {
		t.Run(name, func(t *testing.T) {
			data := []byte(input)
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			_, _ = bounded.Document(data, limits, nil)
			_, _ = bounded.Form(input, limits, nil)
			runtime.ReadMemStats(&after)
			bytes := after.TotalAlloc - before.TotalAlloc
			if bytes > 2<<20 {
				t.Errorf("1 MiB of input allocates %d bytes", bytes)
			}
		})
	}
}

// flat writes a value as the names and values of a form: a[b][0]=c.
func flat(into map[string]string, prefix string, v bounded.Value) {
	switch v.Kind {
	case '{', '[':
		for i, item := range v.Items {
			key := item.Name
			if v.Kind == '[' {
				key = string(rune('0' + i))
			}
			flat(into, prefix+"["+key+"]", item)
		}
	case 'n':
	default:
		into[prefix] = string(v.Kind) + v.Text
	}
}

// flatAny does the same for what encoding/json makes of the input.
func flatAny(into map[string]string, prefix string, v any) {
	switch v := v.(type) {
	case map[string]any:
		for _, key := range slices.Sorted(maps.Keys(v)) {
			flatAny(into, prefix+"["+key+"]", v[key])
		}
	case []any:
		for i, item := range v {
			flatAny(into, prefix+"["+string(rune('0'+i))+"]", item)
		}
	case string:
		into[prefix] = `"` + v
	case json.Number:
		into[prefix] = "0" + v.String()
	case bool:
		into[prefix] = map[bool]string{true: "ttrue", false: "ffalse"}[v]
	}
}

// FuzzDocument compares the reader with encoding/json.
func FuzzDocument(f *testing.F) {
	for _, s := range []string{`{"a":{"b":[1,2.50,-1e9,"x",true,null]},"a":2}`, `[[[]]]`, `"\ud83d\ude00\ud800\u0000"`,
		"\"\xff\xc3\"", `{"a":1}}`, `{"a":1`, ` null`,
		`{"":{"":""},"[a]":1}`, `{"a":[{"":0},{"":0}]}`, `01`, `{"a":"\x"}`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		got, err := bounded.Document(data, wide, nil)
		decoder := json.NewDecoder(bytes.NewReader(data))
		decoder.UseNumber()
		var v any
		wantErr := decoder.Decode(&v)
		if wantErr == nil {
			if _, end := decoder.Token(); !errors.Is(end, io.EOF) {
				wantErr = errors.New("text after the value")
			}
		}
		if (err == nil) != (wantErr == nil) && !errors.Is(err, bounded.ErrTooDeep) &&
			!errors.Is(err, bounded.ErrTooLarge) {
			t.Fatalf("%q: error %v, encoding/json says %v", data, err, wantErr)
		}
		tight := bounded.Limits{Values: 20, Depth: 3, Text: 30, Total: 100}
		if small, smallErr := bounded.Document(data, tight, nil); smallErr == nil && err == nil {
			if diff := cmp.Diff(got, small); diff != "" {
				t.Fatalf("%q: tight limits change the value (-wide +tight):\n%s", data, diff)
			}
		} else if size(small) > tight.Total {
			t.Fatalf("%q: %d bytes of text within limits of %d", data, size(small), tight.Total)
		}
		tight.Lenient = true
		if lenient, _ := bounded.Document(data, tight, nil); size(lenient) > tight.Total {
			t.Fatalf("%q: %d bytes of text within lenient limits of %d", data, size(lenient), tight.Total)
		}
		if err != nil {
			return
		}
		have := map[string]string{}
		want := map[string]string{}
		flat(have, "", got)
		flatAny(want, "", v)
		if diff := cmp.Diff(want, have); diff != "" {
			t.Fatalf("%q (-encoding/json +bounded):\n%s", data, diff)
		}
	})
}

func size(v bounded.Value) int {
	n := len(v.Name) + len(v.Text)
	for _, item := range v.Items {
		n += size(item)
	}
	return n
}

// FuzzForm compares the reader with net/url.
func FuzzForm(f *testing.F) {
	for _, s := range []string{"a=1&b=2&a=3", "&&a", "a=%zz", "a;b=1", "%61=+%2b", "=", "a=b=c"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, raw string) {
		pairs, err := bounded.Form(raw, wide, nil)
		values, wantErr := url.ParseQuery(raw)
		if errors.Is(err, bounded.ErrTooLarge) {
			return
		}
		if (err == nil) != (wantErr == nil) {
			t.Fatalf("%q: error %v, net/url says %v", raw, err, wantErr)
		}
		lenient := wide
		lenient.Lenient = true
		if all, err := bounded.Form(raw, lenient, nil); err != nil || len(all) < len(pairs) {
			t.Fatalf("%q: a lenient reader reads %d pairs of %d, error %v", raw, len(all), len(pairs), err)
		}
		if _, some := bounded.Form(raw, wide, bounded.Names{"a": nil}); (some == nil) != (err == nil) {
			t.Fatalf("%q: error %v of some fields, %v of all", raw, some, err)
		}
		if err != nil {
			return
		}
		got := url.Values{}
		for _, p := range pairs {
			got.Add(p.Name, p.Value)
		}
		if diff := cmp.Diff(values, got); diff != "" {
			t.Fatalf("%q (-net/url +bounded):\n%s", raw, diff)
		}
	})
}

// TestRepeats checks that a reader returns the last of the members with one name, or all of them in their order.
func TestRepeats(t *testing.T) {
	number := func(name, s string) bounded.Value { return bounded.Value{Kind: '0', Name: name, Text: s} }
	for _, tc := range []struct {
		repeats bool
		want    []bounded.Value
	}{
		{false, []bounded.Value{number("a", "4"), number("b", "3")}},
		{true, []bounded.Value{number("a", "2"), number("a", "1"), number("a", "4"), number("b", "3")}},
	} {
		limits := bounded.Limits{Values: 8, Depth: 2, Text: 4, Total: 24, Repeats: tc.repeats}
		got, err := bounded.Document([]byte(`{"a":2,"a":1,"b":3,"a":4}`), limits, nil)
		if diff := cmp.Diff(tc.want, got.Items); diff != "" || err != nil {
			t.Errorf("repeats %v: %v, members (-want +got):\n%s", tc.repeats, err, diff)
		}
	}
}
