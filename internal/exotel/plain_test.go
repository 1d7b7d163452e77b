package exotel

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"net/url"
	"slices"
	"strings"
	"testing"
	"unicode/utf16"
)

// asUTF16 encodes a text with a byte order mark before it, unless it is to have none.
func asUTF16(s string, order binary.AppendByteOrder, mark bool) []byte {
	if mark {
		s = "\ufeff" + s
	}
	var b []byte
	for _, u := range utf16.Encode([]rune(s)) {
		b = order.AppendUint16(b, u)
	}
	return b
}

// quoted returns a text as a string of JSON.
func quoted(s string) string { b, _ := json.Marshal(s); return string(b) }

// TestEncodedBodies reads one event however a relay has encoded its body.
func TestEncodedBodies(t *testing.T) {
	const object, fields = `{"CallSid":"c1","Status":"busy","CustomField":"é😀"}`,
		"CallSid=c1&Status=busy&CustomField=é😀"
	const formType, jsonType = "application/x-www-form-urlencoded", "application/json"
	for name, tc := range map[string]struct {
		contentType string
		body        string
	}{
		"a form with a byte order mark":         {formType, "\ufeff" + fields},
		"JSON with a mark that says it is text": {"text/plain", "\ufeff" + object},
		"UTF-16, little end first":              {jsonType, string(asUTF16(object, binary.LittleEndian, true))},
		"UTF-16, big end first":                 {jsonType, string(asUTF16(object, binary.BigEndian, true))},
		"UTF-16 without a mark":                 {jsonType, string(asUTF16(object, binary.LittleEndian, false))},
		"UTF-16 without a mark, big end first":  {jsonType, string(asUTF16(object, binary.BigEndian, false))},
		"a form in UTF-16":                      {formType, string(asUTF16(fields, binary.LittleEndian, true))},
		"a type that names the encoding": {jsonType + "; charset=utf-16", string(asUTF16(object,
			binary.LittleEndian, true))},
		"a string of JSON":                        {jsonType, quoted(object)},
		"a string of JSON in one":                 {jsonType, quoted(quoted(object))},
		"a string of JSON that says it is a form": {formType, " " + quoted(object) + "\n"},
		"a string of JSON in UTF-16": {jsonType, string(asUTF16(quoted(object), binary.BigEndian,
			true))},
		"the name of a field":                      {formType, object + "="},
		"the escaped name of a field":              {formType, url.QueryEscape(object) + "="},
		"an escaped body":                          {jsonType, url.QueryEscape(object)},
		"a list of one event":                      {jsonType, "[" + object + "]"},
		"a list of one event that says it is text": {"text/plain", " [ " + object + " ]"},
		"a string of a list":                       {jsonType, quoted("[" + object + "]")},
		"payload":                                  {formType, "payload=" + url.QueryEscape(object)},
		"Payload":                                  {formType, "Payload=" + url.QueryEscape(object)},
		"data":                                     {formType, "data=" + object},
		"body in JSON":                             {jsonType, `{"body":` + quoted(object) + `}`},
		"payload of an object":                     {jsonType, `{"payload":` + object + `}`},
		"payload with a list":                      {formType, "payload=" + url.QueryEscape("["+object+"]")},
		"list of a member":                         {jsonType, ` {"json" : [` + object + `] } `},
		"payload in payload": {formType, "payload=" +
			url.QueryEscape(`{"data":`+quoted(object)+`}`)},
	} {
		t.Run(name, func(t *testing.T) {
			checkEvent(t, KindStatus, Request{Method: "POST", ContentType: tc.contentType, Body: []byte(tc.body)},
				Event{CallSID: "c1", Status: "busy", State: StateBusy, CustomField: "é😀"})
		})
	}
}

// TestPayloadNextToOthers leaves a payload alone where it is not all of the request: it may be the client's own.
func TestPayloadNextToOthers(t *testing.T) {
	const object = `{"CallSid":"c2","Status":"completed"}`
	escaped := url.QueryEscape(object)
	next := form("payload=" + escaped)
	next.RawQuery = "CallSid=c1&Status=busy"
	for name, r := range map[string]Request{
		"form":   form(`CallSid=c1&Status=busy&payload=` + escaped),
		"object": asJSON(`{"payload":` + object + `,"CallSid":"c1","Status":"busy"}`),
		"query":  next,
	} {
		t.Run(name, func(t *testing.T) {
			checkEvent(t, KindStatus, r, Event{CallSID: "c1", Status: "busy", State: StateBusy})
		})
	}
	for name, r := range map[string]Request{
		"another field":  form("v=1&payload=" + escaped),
		"twice":          form("payload=" + escaped + "&payload=" + url.QueryEscape(`{"CallSid":"c3"}`)),
		"two wrappers":   form("payload=" + escaped + "&data=" + escaped),
		"another member": asJSON(`{"payload":` + object + `,"v":1}`),
		"a member twice": asJSON(`{"payload":` + object + `,"payload":{"CallSid":"c3"}}`),
		"two members":    asJSON(`{"payload":` + object + `,"body":` + object + `}`),
		"brackets":       form("payload[CallSid]=c2&payload[Status]=completed"),
		"a part":         multi(t, "payload", object),
		"query":          get("payload=" + escaped),
		"two objects":    form("payload=" + escaped + escaped),
		"text after it":  form("payload=" + escaped + "x"),
		"cut":            form("payload=" + escaped[:len(escaped)-3]),
		"not JSON":       asJSON(`{"payload":"` + escaped + `"}`),
	} {
		var p *ParseError
		if event, err := ParseEvent(KindStatus, r, ist); !errors.As(err, &p) || p.Code != "missing_call_sid" {
			t.Errorf("%s: %+v, %v", name, event, err)
		}
	}
}

// TestExotelsData reads an object "data" where it is: ExoML has one.
func TestExotelsData(t *testing.T) {
	event, err := ParseEvent(KindLeg, asJSON(`{"data":{"leg_sid":"leg1","state":"ringing"}}`), ist)
	if err != nil || event.CallSID != "leg1" || event.State != StateRinging ||
		!slices.Contains(event.names, "data[leg_sid]") {
		t.Errorf("%+v, %v", event, err)
	}
}

// TestEncodedURLs reads the URL of a recording that was escaped more often than the fields next to it.
func TestEncodedURLs(t *testing.T) {
	const plainURL = "https://recordings.exotel.com/x/a%20b.mp3?X-Amz-Signature=a%2Fb"
	once := url.QueryEscape(plainURL)
	for name, r := range map[string]Request{
		"once in JSON":     asJSON(`{"CallSid":"c1","RecordingUrl":"` + once + `"}`),
		"twice in JSON":    asJSON(`{"CallSid":"c1","RecordingUrl":"` + url.QueryEscape(once) + `"}`),
		"twice in a form":  form("CallSid=c1&RecordingUrl=" + url.QueryEscape(once)),
		"three times":      form("CallSid=c1&RecordingUrl=" + url.QueryEscape(url.QueryEscape(once))),
		"twice in a query": get("CallSid=c1&RecordingUrl=" + url.QueryEscape(once)),
		"of a leg":         form("CallSid=c1&Legs[0][RecordingUrl]=" + url.QueryEscape(once)),
		"of a stream":      form("CallSid=c1&Stream[RecordingUrl]=" + url.QueryEscape(once)),
		"in a list":        asJSON(`{"CallSid":"c1","RecordingUrlList":["` + once + `"]}`),
		"without its scheme": asJSON(`{"CallSid":"c1","RecordingUrl":"` + strings.TrimPrefix(once,
			"https%3A%2F%2F") + `"}`),
	} {
		event, err := ParseEvent(KindStatus, r, ist)
		if err != nil || event.RecordingURL != plainURL || len(event.Unread) > 0 {
			t.Errorf("%s: %q, %v, %v", name, event.RecordingURL, event.Unread, err)
		}
	}
	list := url.QueryEscape("https://recordings.exotel.com/a.mp3,https://recordings.exotel.com/b.mp3")
	event, err := ParseEvent(KindStatus, asJSON(`{"CallSid":"c1","RecordingUrl":"`+list+`"}`), ist)
	if err != nil || len(event.RecordingURLs) != 2 {
		t.Errorf("an escaped list: %q, %v", event.RecordingURLs, err)
	}
	for _, raw := range []string{"100%", "soon%20", "https%3A%2F%2Fx%00", "https%3A%2F%2Fx%FF", "%2F%zz", "a%2Fb"} {
		if got := decodedURL(raw); got != raw {
			t.Errorf("%q is read as %q", raw, got)
		}
	}
}

// TestKeyOfAnEncodedURL verifies that a redelivery whose URL has another signature is the same event, also where the
// whole URL is escaped.
func TestKeyOfAnEncodedURL(t *testing.T) {
	var keys [2][32]byte
	for i, signature := range []string{"a", "b"} {
		u := url.QueryEscape("https://recordings.exotel.com/a.mp3?Signature=" + signature)
		event, err := ParseEvent(KindStatus, form("CallSid=c1&RecordingUrl="+url.QueryEscape(u)), ist)
		if err != nil {
			t.Fatal(err)
		}
		keys[i] = event.DedupKey("a/b")
	}
	if keys[0] != keys[1] {
		t.Error("another signature makes another event")
	}
}

// TestClaimOfEncodedBodies reads the account of the first event however the body is encoded, and of no other one.
func TestClaimOfEncodedBodies(t *testing.T) {
	const object = `{"AccountSid":"acme1","To":"08047491899"}`
	const list = "[" + object + `,{"AccountSid":"globex1"}]`
	twice := form("payload=" + url.QueryEscape(object) + "&payload=" + url.QueryEscape(object))
	late := form("payload=" + url.QueryEscape(`{"x":"`+strings.Repeat("a", maxClaimBody)+`",`+object[1:]))
	for name, tc := range map[string]struct {
		r    Request
		want string
	}{
		"list":                          {asJSON(list), "acme1"},
		"list in a string":              {asJSON(quoted(list)), "acme1"},
		"list in a payload":             {form("payload=" + url.QueryEscape(list)), "acme1"},
		"list in UTF-16":                {Request{Body: asUTF16(list, binary.BigEndian, true)}, "acme1"},
		"payload":                       {form("payload=" + url.QueryEscape(object)), "acme1"},
		"payload in JSON":               {asJSON(`{"payload":` + object + `}`), "acme1"},
		"payload in a string":           {asJSON(`{"payload":` + quoted(object) + `}`), "acme1"},
		"long list":                     {asJSON("[" + object + strings.Repeat(","+object, 4096) + "]"), "acme1"},
		"first event without":           {asJSON(`[{"CallSid":"c1"},` + list[1:]), ""},
		"two payloads":                  {twice, ""},
		"payload next to another field": {form("v=1&payload=" + url.QueryEscape(object)), ""},
		"after the first 64 KiB":        {late, ""},
	} {
		if got := ReadClaim(tc.r).AccountSID; got != tc.want {
			t.Errorf("%s: account %q, want %q", name, got, tc.want)
		}
	}
}
