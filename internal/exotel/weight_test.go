package exotel

import (
	"encoding/binary"
	"fmt"
	"net/url"
	"runtime"
	"strings"
	"testing"
)

// TestWeight checks that hostile requests take no more memory than their weight, and that real webhooks weigh little.
func TestWeight(t *testing.T) {
	names := func(format string, size int) string {
		var b strings.Builder
		for i := 0; b.Len() < size-32; i++ {
			_, _ = fmt.Fprintf(&b, format, i)
		}
		return b.String()
	}
	asJSON := func(body string) Request { return Request{ContentType: "application/json", Body: []byte(body)} }
	asParts := func(body string) Request {
		return Request{ContentType: "multipart/form-data; boundary=b", Body: []byte(body)}
	}
	const free = 32 << 10 // what every webhook may take in the data plane, its body included
	for name, tc := range map[string]struct {
		r    Request
		real bool
	}{
		"objects":       {r: asJSON(`{"a":[` + strings.Repeat(`{"":0},`, 1<<17) + `0]}`)},
		"lists":         {r: asJSON(`{"a":` + strings.Repeat("[", 1<<20))},
		"names":         {r: asJSON("{" + names(`"%x":0,`, 1<<20) + `"a":0}`)},
		"invalid UTF-8": {r: asJSON(`{"a":["` + strings.Repeat(strings.Repeat("\xff", 20_000)+`","`, 50) + `"]}`)},
		"fields":        {r: form(names("%x&", 1<<20))},
		"escaped":       {r: form("a" + strings.Repeat("&%61=%62", 1<<17))},
		"parts":         {r: asParts(names("--b\r\nContent-Disposition: form-data; name=a%x\r\n\r\n\r\n", 1<<20) + "--b--")},
		"headers":       {r: asParts("--b\r\n" + names("%x:1\r\n", 1<<20) + "\r\n\r\n--b--")},
		"a payload":     {r: form("payload=" + url.QueryEscape(`{"a":[`+strings.Repeat(`{"":0},`, 1<<15)+`0]}`))},
		"UTF-16":        {r: Request{Body: asUTF16("{"+names(`"%x":0,`, 1<<19)+`"a":0}`, binary.BigEndian, true)}},
		"UTF-16 parts": {r: Request{
			ContentType: "multipart/form-data; boundary=b",
			Body:        asUTF16("--b\r\n"+names("%x:1\r\n", 1<<19)+"\r\n\r\n--b--", binary.LittleEndian, true),
		}},
		"wide UTF-16": {r: Request{Body: asUTF16(`{"a":["`+
			strings.Repeat(strings.Repeat("अ", 20_000)+`","`, 25)+`"]}`, binary.BigEndian, true)}},
		"a list in a string": {r: asJSON(quoted("[" + strings.Repeat(`{"CallSid":"c1"},`, maxEvents-1) + "{}]"))},
		"a list in UTF-16": {r: Request{Body: asUTF16("["+strings.Repeat(`{"CallSid":"c1"},`, maxEvents-1)+"{}]",
			binary.BigEndian, true)}},
		"a query": {r: Request{RawQuery: names("%x&", 32<<10)}},
		"a status": {
			real: true,
			r: form("CallSid=80bfbec2d78bbbf10fb851f4fa165211&EventType=terminal&Status=completed" +
				"&From=09876543210&To=09123456789" + strings.Repeat("&Legs[0][Status]=completed", 20)),
		},
		"in JSON": {r: asJSON(jsonSample), real: true},
		"a leg":   {r: leg(legSample, ""), real: true},
	} {
		t.Run(name, func(t *testing.T) {
			var before, after runtime.MemStats
			var fields []*input
			runtime.GC()
			runtime.ReadMemStats(&before)
			request := decoded(tc.r)
			p := readInput(request, nil)
			events := Events(request)
			for _, e := range events {
				fields = append(fields, readInput(e, nil))
			}
			runtime.GC()
			runtime.ReadMemStats(&after)
			runtime.KeepAlive([]any{p, events, request, fields})
			weight := Weight(tc.r)
			if held := int64(after.HeapAlloc) - int64(before.HeapAlloc); held > weight+4<<10 {
				t.Errorf("reading it takes %d bytes, and its weight is %d", held, weight)
			}
			if weight > 4<<20 || tc.real && weight+int64(len(tc.r.Body)) > free {
				t.Errorf("its weight is %d", weight)
			}
			runtime.KeepAlive(tc.r)
		})
	}
}
