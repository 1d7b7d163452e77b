package exotel

import (
	"encoding/binary"
	"encoding/json"
	"net/url"
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
		"payload next to a token":                  {formType, "v=1&Payload=" + url.QueryEscape(object)},
		"data":                                     {formType, "data=" + object},
		"body in JSON":                             {jsonType, `{"body":` + quoted(object) + `}`},
		"payload of an object":                     {jsonType, `{"payload":` + object + `}`},
		"payload in brackets": {formType,
			"payload[CallSid]=c1&payload[Status]=busy&payload[CustomField]=é😀"},
		"payload with a list":                       {formType, "payload=" + url.QueryEscape("["+object+"]")},
		"payload with a list next to another field": {formType, "v=1&payload=" + url.QueryEscape("["+object+"]")},
		"payload in parts": {"multipart/form-data; boundary=b",
			"--b\r\nContent-Disposition: form-data; name=\"payload\"\r\n\r\n" + object + "\r\n--b--\r\n"},
	} {
		t.Run(name, func(t *testing.T) {
			checkEvent(t, KindStatus, Request{Method: "POST", ContentType: tc.contentType, Body: []byte(tc.body)},
				Event{CallSID: "c1", Status: "busy", State: StateBusy, CustomField: "é😀"})
		})
	}
}

// TestPayloadNextToACall leaves a payload alone where the request names its call: it is the client's own.
func TestPayloadNextToACall(t *testing.T) {
	checkEvent(t, KindStatus, form(`CallSid=c1&Status=busy&payload={"CallSid":"c2","Status":"completed"}&data[To]=7`),
		Event{CallSID: "c1", Status: "busy", State: StateBusy, To: "7"})
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
		e, err := ParseEvent(KindStatus, r, ist)
		if err != nil || e.RecordingURL != plainURL || len(e.Unread) > 0 {
			t.Errorf("%s: %q, %v, %v", name, e.RecordingURL, e.Unread, err)
		}
	}
	list := url.QueryEscape("https://recordings.exotel.com/a.mp3,https://recordings.exotel.com/b.mp3")
	e, err := ParseEvent(KindStatus, asJSON(`{"CallSid":"c1","RecordingUrl":"`+list+`"}`), ist)
	if err != nil || len(e.RecordingURLs) != 2 {
		t.Errorf("an escaped list: %q, %v", e.RecordingURLs, err)
	}
	for _, raw := range []string{"100%", "soon%20", "https%3A%2F%2Fx%00", "https%3A%2F%2Fx%FF", "%2F%zz", "a%2Fb"} {
		if got := decodedURL(raw); got != raw {
			t.Errorf("%q is read as %q", raw, got)
		}
	}
}

// TestKeyOfAnEncodedURL : a redelivery has another signature, also in a URL that is escaped as a whole.
func TestKeyOfAnEncodedURL(t *testing.T) {
	var keys [2][32]byte
	for i, signature := range []string{"a", "b"} {
		u := url.QueryEscape("https://recordings.exotel.com/a.mp3?Signature=" + signature)
		e, err := ParseEvent(KindStatus, form("CallSid=c1&RecordingUrl="+url.QueryEscape(u)), ist)
		if err != nil {
			t.Fatal(err)
		}
		keys[i] = e.DedupKey("a/b")
	}
	if keys[0] != keys[1] {
		t.Error("another signature makes another event")
	}
}

// TestMoreEvents applies the first of the events that were not separated, and notes that there are more.
func TestMoreEvents(t *testing.T) {
	const list = `[{"CallSid":"c1","Status":"busy"},{"CallSid":"c2","Status":"failed"}]`
	checkEvent(t, KindStatus, asJSON(list), Event{CallSID: "c1", Status: "busy", State: StateBusy,
		Unread: []Unread{{"(body)", TooLarge, ""}}})
	a, errA := ParseEvent(KindStatus, asJSON(list), ist)
	b, errB := ParseEvent(KindStatus, asJSON(strings.Replace(list, "c2", "c3", 1)), ist)
	if errA != nil || errB != nil || a.DedupKey("a/b") == b.DedupKey("a/b") {
		t.Errorf("lists that differ in another event have one key; %v, %v", errA, errB)
	}
}

// TestClaimOfAList reads the account from the first event of a list.
func TestClaimOfAList(t *testing.T) {
	list := `[{"AccountSid":"acme1","To":"08047491899"},{"AccountSid":"globex1"}]`
	for name, r := range map[string]Request{"list": asJSON(list), "string": asJSON(quoted(list)),
		"UTF-16":  {ContentType: "application/json", Body: asUTF16(list, binary.BigEndian, true)},
		"payload": form("payload=" + url.QueryEscape(list))} {
		if got := ReadClaim(r).AccountSID; got != "acme1" {
			t.Errorf("%s: account %q", name, got)
		}
	}
}
