package exotel

import (
	"net/url"
	"strings"
)

// Stream is what a Passthru says of an audio stream after its end. Empty fields were not sent.
type Stream struct {
	SID string
	// Status is completed, failed or cancelled; where Error says otherwise, that is to be trusted.
	Status string
	// DisconnectedBy is user, bot or NA.
	DisconnectedBy        string
	Error, DetailedStatus string
	// StreamURL is without its query and user, in which agents carry secrets.
	StreamURL, RecordingURL string
	Seconds                 int
}

// stream reads Stream[...], in any of its spellings; nil if the request tells of none.
func (p params) stream() *Stream {
	field := func(names ...string) string {
		for i, n := range names {
			names[i] = "Stream[" + n + "]"
		}
		return p.first(names...)
	}
	s := Stream{
		SID: field("StreamSID", "StreamSid", "stream_sid", "streamSid"), Status: strings.ToLower(field("Status")), DisconnectedBy: field("DisconnectedBy"),
		Error: field("Error"), DetailedStatus: field("DetailedStatus"), StreamURL: bareURL(field("StreamUrl", "StreamURL")),
		RecordingURL: field("RecordingUrl", "RecordingURL"), Seconds: seconds(field("Duration")),
	}
	if s == (Stream{}) {
		return nil
	}
	if s.Status == "canceled" {
		s.Status = "cancelled" // as Exotel spells it here, though not of calls
	}
	return &s
}

// bareURL is empty for what is no URL.
func bareURL(raw string) string {
	u, err := url.Parse(raw)
	if err != nil {
		return ""
	}
	u.User, u.RawQuery, u.Fragment = nil, "", ""
	return u.String()
}
