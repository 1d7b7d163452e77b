package exotel

import (
	"encoding/binary"
	"encoding/json"
	"net/url"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"
)

const (
	signedSource = "https://recordings.exotel.com/acme1/c1.mp3"
	signature    = "X-Amz-Expires=900&X-Amz-Signature=0a1b2c%2Fd"
	otherURL     = "https://acme.example/hook?key=stays&X-Amz-Signature=stays"
)

// TestRedactURL removes the signature in every way in which Exotel writes a URL, and nothing else.
func TestRedactURL(t *testing.T) {
	const form, jsonType = "application/x-www-form-urlencoded", "application/json; charset=utf-8"
	signed := signedSource + "?" + signature
	asJSON := func(v any) string { b, _ := json.Marshal(v); return string(b) } // escapes & as \u0026
	legs := asJSON([]map[string]string{{"RecordingUrl": signed, "Status": "completed"}})
	field := func(u string) string { return "RecordingUrl=" + url.QueryEscape(u) }
	part := func(u string) string {
		return "--b\r\nContent-Disposition: form-data; name=\"RecordingUrl\"\r\n\r\n" + u + "\r\n--b--\r\n"
	}
	slashes := func(u string) string { return `{"u":"` + strings.ReplaceAll(u, "/", `\/`) + `","n":1}` }
	doubled := func(u string) string { return strings.ReplaceAll(u, "/", `\\\/`) }
	nested := func(u string) string { return `{"Stream":"{\"RecordingUrl\":\"` + u + `\",\"x\":\"y\"}"}` }
	list := func(u string) string { return asJSON(map[string]any{"a": u, "b": []string{u, "x"}}) }
	text := func(u string) string { return `{"u":"` + u + `"}` }
	lower := func(f string) string { return "R" + strings.ToLower(f[1:9]) + "Url" + strings.ToLower(f[12:]) }
	legsIn := func(legs string) string { return "Legs=" + url.QueryEscape(legs) }
	plainLegs := strings.Replace(legs, "?"+strings.ReplaceAll(signature, "&", `\u0026`), "", 1)
	for name, tc := range map[string]struct{ contentType, query, body, wantQuery, wantBody string }{
		"form": {form, "", "CallSid=c1&" + field(signed) + "&CustomField=50%+off;a",
			"", "CallSid=c1&" + field(signedSource) + "&CustomField=50%+off;a"},
		"form, lower hex": {form, "", lower(field(signed)), "", field(signedSource)},
		"form, unescaped": {form, "", "RecordingUrl=" + signedSource + "?Sig=a", "", field(signedSource)},
		"query": {"", "CallSid=c1&" + field(signed), "", "CallSid=c1&" + field(signedSource),
			""},
		"form that says it is JSON": {jsonType, "", "CallSid=c1&" + field(signed), "",
			"CallSid=c1&" + field(signedSource)},
		"form that says it is text": {"text/plain", "", "CallSid=c1&" + field(signed), "",
			"CallSid=c1&" + field(signedSource)},
		"JSON in a form":              {form, "", legsIn(legs), "", legsIn(plainLegs)},
		"JSON":                        {jsonType, "", list(signed), "", list(signedSource)},
		"JSON, escaped slashes":       {jsonType, "", slashes(signed), "", slashes(signedSource)},
		"JSON in JSON":                {jsonType, "", nested(signed), "", nested(signedSource)},
		"multipart":                   {"multipart/form-data; boundary=b", "", part(signed), "", part(signedSource)},
		"JSON that says it is a form": {form, "", text(signed), "", text(signedSource)},
		"without a scheme": {jsonType, "", text("//recordings.exotel.com/acme1/c1.mp3?Signature=a"), "",
			text("//recordings.exotel.com/acme1/c1.mp3")},
		"host and path": {jsonType, "", text("recordings.exotel.com/acme1/c1.mp3?Signature=a"), "",
			text("recordings.exotel.com/acme1/c1.mp3")},
		"host and path, form": {form, "", "RecordingUrl=recordings.exotel.com/acme1/c1.mp3?Signature=a", "",
			field("recordings.exotel.com/acme1/c1.mp3")},
		"host and path, parts": {"multipart/form-data; boundary=b", "",
			part("recordings.exotel.com/acme1/c1.mp3?Signature=a"), "", part("recordings.exotel.com/acme1/c1.mp3")},
		"no scheme, slashes": {jsonType, "", slashes("//recordings.exotel.com/acme1/c1.mp3?Signature=a"),
			"", slashes("//recordings.exotel.com/acme1/c1.mp3")},
		"slashes by number": {jsonType, "",
			text(`https:\u002f\u002Frecordings.exotel.com\u002facme1\u002fc1.mp3?S=a`), "",
			text(`https:\u002f\u002Frecordings.exotel.com\u002facme1\u002fc1.mp3`)},
		"doubled slashes": {jsonType, "", text(doubled(signedSource) + `?S=a\\u0026T=b\\\/c`), "",
			text(doubled(signedSource))},
		"quotes by number": {jsonType, "", `{"s":"{\u0022u\u0022:\u0022` + signedSource + `?S=a\u0022}"}`,
			"", `{"s":"{\u0022u\u0022:\u0022` + signedSource + `\u0022}"}`},
		"a question mark by number": {jsonType, "", text(signedSource + `\u003fS=a`), "", text(signedSource)},
		"letters by number": {jsonType, "", text(`https://\\u0072ecordings.exotel.com/acme1/c1.mp3?S=a`), "",
			text(`https://\\u0072ecordings.exotel.com/acme1/c1.mp3`)},
		"after a line break": {jsonType, "", text(`x\nrecordings.exotel.com/acme1/c1.mp3?S=a`), "",
			text(`x\nrecordings.exotel.com/acme1/c1.mp3`)},
		"before another, escaped": {jsonType, "",
			text(doubled(signedSource + "?S=a,//recordings.exotel.com/c.mp3?S=c")), "",
			text(doubled(signedSource + ",//recordings.exotel.com/c.mp3?S=c"))},
		"with the port": {jsonType, "", text("http://recordings.exotel.com:80/acme1/c1.mp3?S=a"), "",
			text("http://recordings.exotel.com:80/acme1/c1.mp3")},
		"after another in a list": {form, "", "RecordingUrl=" +
			url.QueryEscape("https://recordings.exotel.com/b.mp3?S=b,"+signed+",//recordings.exotel.com/c.mp3?S=c"),
			"", "RecordingUrl=" +
				url.QueryEscape("https://recordings.exotel.com/b.mp3?S=b,"+signedSource+
					",//recordings.exotel.com/c.mp3?S=c")},
		"a fragment": {jsonType, "", text(signedSource + "#a?S=a"), "", text(signedSource)},
		"escaped twice, form": {form, "",
			"CallSid=c1&RecordingUrl=" + url.QueryEscape(url.QueryEscape(signed)) + "&a=b",
			"", "CallSid=c1&RecordingUrl=" + url.QueryEscape(url.QueryEscape(signedSource)) + "&a=b"},
		"escaped three times, query": {"",
			"RecordingUrl=" + url.QueryEscape(url.QueryEscape(url.QueryEscape(signed))), "",
			"RecordingUrl=" + url.QueryEscape(url.QueryEscape(url.QueryEscape(signedSource))), ""},
		"escaped, JSON": {jsonType, "", text(url.QueryEscape(signed)), "", text(url.QueryEscape(signedSource))},
		"escaped list": {jsonType, "", text(url.QueryEscape(signed + ",https://recordings.exotel.com/c.mp3?S=c")), "",
			text(url.QueryEscape(signedSource + ",https://recordings.exotel.com/c.mp3?S=c"))},
		"escaped, without a scheme": {jsonType, "", text(url.QueryEscape(strings.TrimPrefix(signed, "https://"))), "",
			text(url.QueryEscape(strings.TrimPrefix(signedSource, "https://")))},
		"an escaped body": {form, "", url.QueryEscape(text(signed)) + "=", "",
			url.QueryEscape(text(signedSource)) + "="},
		"a string of JSON": {jsonType, "", asJSON(text(signed)), "", asJSON(text(signedSource))},
		"a string of JSON, escaped slashes": {jsonType, "", asJSON(slashes(signed)), "",
			asJSON(slashes(signedSource))},
		"payload": {form, "", "payload=" + url.QueryEscape(text(signed)), "",
			"payload=" + url.QueryEscape(text(signedSource))},
		"UTF-16": {jsonType, "", string(asUTF16(text(signed), binary.LittleEndian,
			true)), "", text(signedSource)},
		"http, another case": {jsonType, "", text("http://Recordings.Exotel.com/acme1/c1.mp3?Signature=a"),
			"", text("http://Recordings.Exotel.com/acme1/c1.mp3")},
	} {
		request := Request{ContentType: tc.contentType, RawQuery: tc.query, Body: []byte(tc.body)}
		got, changed := RedactURL(request, signedSource)
		if !changed || got.RawQuery != tc.wantQuery || string(got.Body) != tc.wantBody {
			t.Errorf("%s: %v\n%s\n%s\nwant\n%s\n%s", name, changed, got.RawQuery, got.Body, tc.wantQuery, tc.wantBody)
		}
		again, changed := RedactURL(got, signedSource)
		if changed || again.RawQuery != got.RawQuery || string(again.Body) != string(got.Body) {
			t.Errorf("%s: the second time changes it", name)
		}
	}
	for name, body := range map[string]string{
		"another URL":       "StatusCallback=" + url.QueryEscape(otherURL),
		"another recording": "RecordingUrl=" + url.QueryEscape(signedSource+"2?"+signature),
		"another host":      "RecordingUrl=" + url.QueryEscape("evilrecordings.exotel.com/acme1/c1.mp3?"+signature),
		"a host in a path": "RecordingUrl=" +
			url.QueryEscape("https://acme.example/recordings.exotel.com/acme1/c1.mp3?"+signature),
		"a domain below": "RecordingUrl=" + url.QueryEscape("//a.recordings.exotel.com/acme1/c1.mp3?"+
			signature),
		"a part of it": "RecordingUrl=" + url.QueryEscape("https://recordings.exotel.com/acme1/c1?"+
			signature),
		"an escaped query in a path": "RecordingUrl=" + url.QueryEscape(signedSource+"%3Fa"),
		"another escaped URL":        "RecordingUrl=" + url.QueryEscape(url.QueryEscape(signedSource+"2?"+signature)),
		"no query":                   "RecordingUrl=" + url.QueryEscape(signedSource),
		"broken escapes":             "RecordingUrl=%zz%3F",
		"nothing":                    "",
		"no text":                    "\x00\xff?https://\\u12?&=%",
	} {
		got, changed := RedactURL(Request{ContentType: form, Body: []byte(body)}, signedSource)
		if changed || string(got.Body) != body {
			t.Errorf("%s: becomes %q", name, got.Body)
		}
	}
}

// FuzzRedactURL holds every body to the promise: valid JSON stays valid JSON, and nothing grows beyond its escapes.
func FuzzRedactURL(f *testing.F) {
	f.Add(`{"u":"`+signedSource+`?a=\u0026\"b"}`, "a="+url.QueryEscape(signedSource+"?x"))
	f.Add(`["`+signedSource+`?\\"]`, signedSource+"?")
	f.Fuzz(func(t *testing.T, body, query string) {
		got, _ := RedactURL(Request{ContentType: "application/json", RawQuery: query, Body: []byte(body)},
			signedSource)
		if json.Valid([]byte(body)) && !json.Valid(got.Body) {
			t.Errorf("%q becomes %q", body, got.Body)
		}
		if len(got.Body) > max(len(body), 3*len(body)/2) || len(got.RawQuery) > 3*len(query) {
			t.Errorf("%q and %q grow to %q and %q", body, query, got.Body, got.RawQuery)
		}
	})
}

// FuzzRedactNested puts a signed URL into JSON, which is a string in other JSON, to any depth. A writer of JSON escapes
// the slashes or not. Nothing of the signature stays, and all that is not of the URL does.
func FuzzRedactNested(f *testing.F) {
	f.Add(uint8(3), uint8(0b101), "0a/1b&c=d")
	f.Add(uint8(7), uint8(0), "<>")
	f.Fuzz(func(t *testing.T, depth, slashes uint8, secret string) {
		const blank = " \t\r\n\"'<>\\,"
		unfit := strings.ContainsAny(secret, blank) || strings.ContainsFunc(secret, unicode.IsControl)
		if unfit || !utf8.ValidString(secret) || len(secret) > 50 {
			return
		}
		depth %= 10 // each level doubles the backslashes
		body := func(u string) string {
			for level := range depth + 1 {
				data, err := json.Marshal(map[string]string{"u": u, "other": otherURL})
				if err != nil {
					t.Fatal(err)
				}
				if u = string(data); slashes>>(level%8)&1 == 1 {
					u = strings.ReplaceAll(u, "/", `\/`)
				}
			}
			return u
		}
		request := Request{ContentType: "application/json", Body: []byte(body(signedSource + "?S=" + secret))}
		got, changed := RedactURL(request, signedSource)
		if want := body(signedSource); !changed || string(got.Body) != want {
			t.Errorf("%s\nbecomes\n%s, want\n%s", request.Body, got.Body, want)
		}
	})
}
