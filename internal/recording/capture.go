package recording

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// CaptureKey returns the key of the capture of a stream: in.RecordingID is the stream's session, in.Queued when the
// stream began. Recordings of Exotel have other ids.
func CaptureKey(tenantID, template string, in KeyInput) (string, error) {
	return expand(template, tenantID, keyFields{
		CallSID:     plainSID(in.CallSID),
		RecordingID: "capture-" + in.RecordingID,
		Date:        in.Queued.UTC().Format(dateLayout),
	}, ".wav")
}

// CaptureID is the id of a stream's capture, among the ids of recordings.
func CaptureID(session string) string { return ID("capture", session) }

// maxPlainSID is the length of a call's id in a key, in bytes.
const maxPlainSID = 64

// plainSID is an id of a call as a key takes it: a client that opens a stream can give it any.
func plainSID(callSID string) string {
	plain := strings.Map(func(r rune) rune {
		if r < utf8.RuneSelf && (r == '-' || r == '_' || unicode.IsLetter(r) || unicode.IsDigit(r)) {
			return r
		}
		return '-'
	}, callSID)
	if plain == "" {
		return "unknown"
	}
	return plain[:min(len(plain), maxPlainSID)]
}
