package exotel

import (
	"net/url"
	"strings"
)

// Stream is what a Passthru says of an audio stream after its end. Empty fields were not sent.
type Stream struct {
	SID string
	// Status is completed, failed or cancelled. If Error says otherwise, Error is right.
	Status string
	// DisconnectedBy is user, bot or NA.
	DisconnectedBy        string
	Error, DetailedStatus string
	// StreamURL is without its query and user, in which agents carry secrets.
	StreamURL, RecordingURL string
	Seconds                 int
}

// stream reads Stream[...]; nil if the request tells of none.
func (v *values) stream() *Stream {
	s := Stream{
		SID:            v.get(fieldStreamSID),
		Status:         strings.ToLower(v.get(fieldStreamStatus)),
		DisconnectedBy: v.get(fieldStreamBy),
		Error:          v.get(fieldStreamError),
		DetailedStatus: v.get(fieldStreamDetail),
		StreamURL:      bareURL(decodedURL(v.get(fieldStreamURL))),
		RecordingURL:   recordingURL(v.get(fieldStreamRecording)),
		Seconds:        v.seconds(fieldStreamSeconds),
	}
	if s == (Stream{}) {
		return nil
	}
	if s.Status == "canceled" {
		s.Status = "cancelled" // as Exotel spells it of streams, though not of calls
	}
	return &s
}

// bareURL is empty for a text that is not a URL.
func bareURL(raw string) string {
	address, err := url.Parse(raw)
	if err != nil {
		return ""
	}
	address.User = nil
	address.RawQuery = ""
	address.Fragment = ""
	return address.String()
}
