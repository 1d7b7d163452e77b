package exotel

import (
	"encoding/binary"
	"net/url"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestEvents separates the events of a list.
func TestEvents(t *testing.T) {
	const a, b = `{"CallSid":"c1","Status":"busy"}`, `{"CallSid":"c2", "Status":"failed"}`
	many := strings.Repeat(a+",", maxEvents)
	for name, tc := range map[string]struct {
		r    Request
		want []string
	}{
		"an object":         {asJSON(a), nil},
		"a form":            {form("CallSid=c1"), nil},
		"a query":           {get("CallSid=c1"), nil},
		"one event":         {asJSON("[" + a + "]"), nil},
		"no event":          {asJSON("[]"), nil},
		"two events":        {asJSON("[" + a + ",\n " + b + "]"), []string{a, b}},
		"that are the same": {asJSON("[" + a + "," + a + "]"), []string{a, a}},
		"as text": {Request{ContentType: "text/plain", Body: []byte("[" + a + "," + b + "]")}, []string{a,
			b}},
		"in a string": {asJSON(quoted("[" + a + "," + b + "]")), []string{a, b}},
		"in UTF-16": {Request{ContentType: "application/json",
			Body: asUTF16("["+a+","+b+"]", binary.LittleEndian, true)}, []string{a, b}},
		"in a payload":     {form("payload=" + url.QueryEscape("["+a+","+b+"]")), []string{a, b}},
		"not only objects": {asJSON(`[` + a + `,7,null,[]]`), []string{a, "7", "null", "[]"}},
		"cut":              {asJSON("[" + a + `,{"CallSid":"c2","Sta`), []string{a, `{"CallSid":"c2","Sta`}},
		"cut between two":  {asJSON("[" + a + "," + b), []string{a, b}},
		"a comma too many": {asJSON("[" + a + "," + b + ",]"), []string{a, b, "]"}},
		"text after them":  {asJSON("[" + a + "," + b + "] x"), []string{a, b, " x"}},
		"as many as are separated": {asJSON("[" + many[:len(many)-1] + "]"),
			strings.Split(strings.Repeat(a+"\n", maxEvents-1)+a, "\n")},
		"one more": {asJSON("[" + many + b + "]"),
			append(strings.Split(strings.Repeat(a+"\n", maxEvents-1)+a, "\n"), "["+b+"]")},
		"two more": {asJSON("[" + many + b + "," + a + "]"),
			append(strings.Split(strings.Repeat(a+"\n", maxEvents-1)+a, "\n"), "["+b+","+a+"]")},
	} {
		var got []string
		for _, e := range Events(tc.r) {
			got = append(got, string(e.Body))
			if e.RawQuery != tc.r.RawQuery || e.ContentType != mediaJSON {
				t.Errorf("%s: a part is %+v", name, e)
			}
		}
		if d := cmp.Diff(tc.want, got); d != "" {
			t.Errorf("%s: bodies (-want +got):\n%s", name, d)
		}
	}
}
