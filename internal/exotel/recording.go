package exotel

import (
	"net/url"
	"path"
	"slices"
	"strings"

	"github.com/caly-dev/caly/internal/reason"
)

// maxRecordingURLs bounds the recordings of one event. It is more than a call may have.
const maxRecordingURLs = 64

// recordingURLs returns every recording that the request names, each once, the call's own first.
func (v *values) recordingURLs(legs []ListedLeg, stream *Stream) []string {
	list := splitURLs(decodedURL(v.get(fieldRecording)))
	for _, t := range v.recordings {
		list = append(list, splitURLs(decodedURL(t.value))...)
	}
	var urls, known []string // known are those without their queries
	add := func(raw string) {
		u := recordingURL(raw)
		bare := WithoutQuery(u)
		switch {
		case u == "" || slices.Contains(known, bare):
		case len(urls) == maxRecordingURLs:
			v.unread.add(canonical[fieldRecording], reason.FieldTooLarge, "")
		default:
			urls = append(urls, u)
			known = append(known, bare)
		}
	}
	for _, raw := range list {
		add(raw)
	}
	for _, leg := range legs {
		add(leg.RecordingURL)
	}
	if stream != nil {
		add(stream.RecordingURL)
	}
	return urls
}

// splitURLs takes a list of URLs in one text apart. A comma within a URL does not end it.
func splitURLs(s string) (list []string) {
	start := 0
	for at := range len(s) {
		if s[at] == ',' && startsURL(s[at+1:]) {
			list = append(list, s[start:at])
			start = at + 1
		}
	}
	return append(list, s[start:])
}

// startsURL reports whether a text is a URL, such as the next one of a list: it begins with a scheme, with "//", or
// with a host or bucket of Exotel's.
func startsURL(s string) bool {
	s = strings.TrimLeft(s, ` "'`)
	if len(s) >= len("http") && strings.EqualFold(s[:len("http")], "http") || strings.HasPrefix(s, "//") {
		return true
	}
	host, rest, found := strings.Cut(s[:min(len(s), maxPlace)], "/")
	host, _, _ = strings.Cut(strings.ToLower(host), ":")
	inPath := func(bucket string) bool { return strings.HasPrefix(rest, bucket+"/") }
	return found && (isDomain(host) || namesBucket(host, inPath))
}

// maxPlace is the length of the longest name of a host, with a port and a bucket after it.
const maxPlace = 253 + 64

// recordingURL returns the URL that a recording is fetched from, or "" for a word that says that there is none. Plain
// http to Exotel becomes https. Any other text is returned as it is: the caller rejects it.
func recordingURL(raw string) string {
	raw = decodedURL(strings.ReplaceAll(strings.Trim(raw, "\"' \t\r\n"), `\/`, "/")) // as PHP writes it in JSON
	if isNothing(raw) || len(raw) <= len("undefined") && noRecording[strings.ToLower(raw)] {
		return ""
	}
	if strings.HasPrefix(raw, "https://") {
		return raw
	}
	text := raw
	switch {
	case strings.HasPrefix(text, "//"):
		text = "http:" + text
	case !strings.Contains(text, "://"):
		text = "http://" + text
	}
	address, err := url.Parse(text)
	if err != nil || !Secure(address) {
		return raw
	}
	return address.String()
}

// decodedURL returns a URL that was escaped as a whole, once or more often: https%3A%2F%2Frecordings.exotel.com. Any
// other text is returned as it is.
func decodedURL(raw string) string {
	if !strings.Contains(raw, "%") {
		return raw
	}
	text := raw
	for range maxWraps {
		if strings.Contains(text, "/") || !strings.Contains(text, "%") {
			break
		}
		plain, err := url.QueryUnescape(text)
		if err != nil {
			return raw
		}
		text = plain
	}
	if strings.Contains(text, "/") && (startsURL(text) || strings.Contains(text, "://")) && isText(text) {
		return text
	}
	return raw
}

// audioFiles are the names of files with audio that Exotel has.
var audioFiles = map[string]bool{".mp3": true, ".wav": true}

// isAudioFile reports whether a URL leads to a file with audio by its name. A leg's Url may be that of the leg itself.
func isAudioFile(raw string) bool {
	return audioFiles[strings.ToLower(path.Ext(WithoutQuery(raw)))]
}
