package agentstream

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"
)

// StartInfo is what "start" tells about a stream. Empty fields were not told.
type StartInfo struct {
	StreamSID, CallSID, AccountSID string
	From, To                       string
	Custom                         map[string]string // the tenant's own parameters; Exotel allows three
	Encoding                       string            // as written: raw, raw/slin, audio/x-raw, ...
	SampleRate                     int               // 0 if it was not told
	BitRate                        string
}

// maxCustom bounds the custom parameters that are kept.
const maxCustom = 16

// fields is an object whose keys may come in either casing, and whose values as strings or numbers.
type fields map[string]json.RawMessage

// ParseStart reads a "start" message, in either casing, numbers quoted or not.
func ParseStart(raw []byte) (StartInfo, error) {
	message, ok := object(raw)
	if !ok || !utf8.Valid(raw) {
		return StartInfo{}, ErrMalformed
	}
	if event := message.text("event"); event != "start" {
		return StartInfo{}, fmt.Errorf("agentstream: %.32q is not a start message", event)
	}
	start := message.object("start")
	format := start.object("media_format", "mediaFormat")
	info := StartInfo{
		StreamSID:  message.text("stream_sid", "streamSid"),
		CallSID:    start.text("call_sid", "callSid"),
		AccountSID: start.text("account_sid", "accountSid"),
		From:       start.text("from"),
		To:         start.text("to"),
		Encoding:   format.text("encoding"),
		SampleRate: hertz(format.text("sample_rate", "sampleRate")),
		BitRate:    format.text("bit_rate", "bitRate"),
		Custom:     custom(start.object("custom_parameters", "customParameters")),
	}
	if info.StreamSID == "" {
		info.StreamSID = start.text("stream_sid", "streamSid")
	}
	return info, nil
}

func object(raw []byte) (fields, bool) {
	var f fields
	err := json.Unmarshal(raw, &f)
	return f, err == nil && f != nil
}

// object is the first of these keys that is an object; an empty one if none is.
func (f fields) object(keys ...string) fields {
	for _, k := range keys {
		if inner, ok := object(f[k]); ok {
			return inner
		}
	}
	return nil
}

// text is the first of these keys that holds text or a number.
func (f fields) text(keys ...string) string {
	for _, k := range keys {
		if s := scalarText(f[k]); s != "" {
			return s
		}
	}
	return ""
}

func scalarText(raw json.RawMessage) string {
	var s string
	if json.Unmarshal(raw, &s) == nil {
		return s
	}
	var n json.Number
	if json.Unmarshal(raw, &n) == nil {
		return n.String()
	}
	return ""
}

// hertz reads 8000, "8000" and "8000Hz"; 0 is anything that no audio has.
func hertz(s string) int {
	s = strings.TrimSpace(s)
	if cut := len(s) - len("hz"); cut > 0 && strings.EqualFold(s[cut:], "hz") {
		s = strings.TrimSpace(s[:cut])
	}
	n, err := strconv.Atoi(s)
	if err != nil || n < 0 || n > 192_000 {
		return 0
	}
	return n
}

// custom keeps at most maxCustom parameters: which ones is of no matter, since nobody sends as many.
func custom(f fields) map[string]string {
	if len(f) == 0 {
		return nil
	}
	out := make(map[string]string, min(len(f), maxCustom))
	for k, raw := range f {
		if len(out) == maxCustom {
			break
		}
		if s := scalarText(raw); s != "" {
			out[k] = s
		}
	}
	return out
}
