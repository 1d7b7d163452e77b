package exotel

import (
	"strings"
	"testing"
)

// benchmarked are requests as Exotel's documents show them.
func benchmarked(b *testing.B) map[string]struct {
	kind string
	r    Request
} {
	b.Helper()
	passthru := "CallSid=23c162077629863c1a2d7f29263a162m&CallFrom=09999999991&CallTo=09999999980&Direction=incoming" +
		"&ForwardedFrom=null&Created=2022-02-23+12%3A31%3A59&DialCallDuration=17" +
		"&RecordingUrl=https%3A%2F%2Frecordings.exotel.com%2Fexotelrecordings%2F" +
		"acme1%2F23c162077629863c1a2d7f29263a162n.mp3" +
		"&StartTime=2022-02-23+12%3A31%3A58&EndTime=1970-01-01+05%3A30%3A00&DialCallStatus=completed&" +
		"CallType=completed" +
		"&DialWhomNumber=09999999999&ProcessStatus=null&flow_id=228040&tenant_id=67291&From=09999999991&" +
		"To=09999999988" +
		"&RecordingAvailableBy=2022-02-23+12%3A37%3A25&CurrentTime=2022-02-23+12%3A32%3A25&" +
		"OutgoingPhoneNumber=09999999988" +
		"&Legs%5B0%5D%5BNumber%5D=09999999999&Legs%5B0%5D%5BType%5D=single&Legs%5B0%5D%5BOnCallDuration%5D=10" +
		"&Legs%5B0%5D%5BCauseCode%5D=NORMAL_CLEARING&Legs%5B0%5D%5BCause%5D=16"
	return map[string]struct {
		kind string
		r    Request
	}{
		"passthru": {KindPassthru, Request{Method: "GET", RawQuery: passthru}},
		"form":     {KindStatus, form(strings.ReplaceAll(passthru, "DialCall", "Call"))},
		"json":     {KindStatus, Request{Method: "POST", ContentType: "application/json", Body: []byte(jsonSample)}},
		"leg":      {KindLeg, leg(legSample, "ev1")},
	}
}

func BenchmarkParseEvent(b *testing.B) {
	for name, tc := range benchmarked(b) {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				event, err := ParseEvent(tc.kind, tc.r, ist)
				if err != nil {
					b.Fatal(err)
				}
				_ = event.DedupKey("acme/support")
			}
		})
	}
}
