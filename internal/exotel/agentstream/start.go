package agentstream

import (
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/caly-dev/caly/internal/bounded"
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

// limits of a "start" message. Exotel's have about 20 values.
var limits = bounded.Limits{Values: 1024, Depth: 16, Text: 16 << 10, Total: 64 << 10}

// startNames are the only members of a message that are kept in memory. Nil keeps all members below.
var startNames = bounded.Names{
	"event":      nil,
	"stream_sid": nil,
	"streamSid":  nil,
	"start": {Names: bounded.Names{
		"stream_sid":        nil,
		"streamSid":         nil,
		"call_sid":          nil,
		"callSid":           nil,
		"account_sid":       nil,
		"accountSid":        nil,
		"from":              nil,
		"to":                nil,
		"media_format":      nil,
		"mediaFormat":       nil,
		"custom_parameters": nil,
		"customParameters":  nil,
	}},
}

// ParseStart reads a "start" message, in either casing, numbers quoted or not.
func ParseStart(raw []byte) (StartInfo, error) {
	value, err := bounded.Document(raw, limits, startNames)
	if err != nil || value.Kind != '{' || !utf8.Valid(raw) {
		return StartInfo{}, ErrMalformed
	}
	message := fields(value)
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

// fields is an object whose keys may come in either casing, and whose values as strings or numbers.
type fields bounded.Value

// object is the first of these keys that is an object; an empty one if none is.
func (f fields) object(keys ...string) fields {
	for _, k := range keys {
		if inner, ok := bounded.Value(f).Member(k); ok && inner.Kind == '{' {
			return fields(inner)
		}
	}
	return fields{}
}

// text is the first of these keys that holds text or a number.
func (f fields) text(keys ...string) string {
	for _, k := range keys {
		if value, _ := bounded.Value(f).Member(k); scalarText(value) != "" {
			return value.Text
		}
	}
	return ""
}

func scalarText(v bounded.Value) string {
	if v.Kind == '"' || v.Kind == '0' {
		return v.Text
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

// custom returns at most maxCustom parameters, in the order of their names. Exotel sends fewer.
func custom(f fields) map[string]string {
	if len(f.Items) == 0 {
		return nil
	}
	out := make(map[string]string, min(len(f.Items), maxCustom))
	for _, v := range f.Items {
		if len(out) == maxCustom {
			break
		}
		if s := scalarText(v); s != "" {
			out[v.Name] = s
		}
	}
	return out
}
