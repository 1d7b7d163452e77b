package exotel

import (
	"encoding/binary"
	"errors"
	"net/url"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/caly-dev/caly/internal/reason"
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
		"in UTF-16": {Request{
			ContentType: "application/json",
			Body:        asUTF16("["+a+","+b+"]", binary.LittleEndian, true),
		}, []string{a, b}},
		"in a payload":                 {form("payload=" + url.QueryEscape("["+a+","+b+"]")), []string{a, b}},
		"not only objects":             {asJSON(`[` + a + `,7,null,[]]`), []string{a, "7", "null", "[]"}},
		"cut":                          {asJSON("[" + a + `,{"CallSid":"c2","Sta`), nil},
		"cut between two":              {asJSON("[" + a + "," + b), nil},
		"a comma too many":             {asJSON("[" + a + "," + b + ",]"), nil},
		"one that is not JSON":         {asJSON("[" + a + "," + strings.Replace(b, ":", "", 1) + "]"), nil},
		"text after them":              {asJSON("[" + a + "," + b + "] x"), nil},
		"a list after them":            {asJSON("[" + a + "," + b + "][" + a + "]"), nil},
		"in a payload next to a field": {form("v=1&payload=" + url.QueryEscape("["+a+","+b+"]")), nil},
		"in a payload next to the call": {Request{
			RawQuery: "CallSid=c1",
			Body:     []byte("payload=" + url.QueryEscape("["+a+","+b+"]")),
		}, nil},
		"in a member": {asJSON(`{"data":[` + a + "," + b + "]}"), []string{a, b}},
		"as many as are separated": {asJSON("[" + many[:len(many)-1] + "]"),
			strings.Split(strings.Repeat(a+"\n", maxEvents-1)+a, "\n")},
		"one more": {asJSON("[" + many + b + "]"), nil},
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

// TestSeveralEventsAtOnce rejects a body of several events, and one that is not a list of one event, whatever call the
// query names: they are not about that call alone.
func TestSeveralEventsAtOnce(t *testing.T) {
	const a, b = `{"CallSid":"c1","Status":"busy"}`, `{"CallSid":"c2","Status":"failed"}`
	for name, body := range map[string]string{
		"two events":       "[" + a + "," + b + "]",
		"no event":         "[]",
		"cut":              "[" + a + `,{"Call`,
		"cut in the first": `[{"CallSid":"c1","Sta`,
		"a comma too many": "[" + a + ",]",
		"text after them":  "[" + a + "] x",
		"one too many":     "[" + strings.Repeat(a+",", maxEvents) + b + "]",
		"in a payload":     "payload=" + url.QueryEscape("["+a+","+b+"]"),
	} {
		for _, query := range []string{"", "From=09876543210"} {
			request := Request{RawQuery: query, ContentType: mediaJSON, Body: []byte(body)}
			event, err := ParseEvent(KindStatus, request, ist)
			var p *ParseError
			if !errors.As(err, &p) || p.Code != reason.DeadMalformedBody {
				t.Errorf("%s, query %q: %+v, %v", name, query, event, err)
			}
		}
	}
	request := asJSON("[" + a + "," + b + "]")
	request.RawQuery = "CallSid=c1"
	if event, err := ParseEvent(KindStatus, request, ist); err == nil {
		t.Errorf("two events next to a query that names a call: %+v", event)
	}
}
