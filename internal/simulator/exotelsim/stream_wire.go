package exotelsim

import (
	"encoding/base64"
	"encoding/json"
	"net/url"
	"strconv"
	"time"
)

// speller writes a stream's messages as Exotel does, in the chosen style.
type speller struct {
	s        Stream
	keys     streamKeys
	sid      string // quoted
	sequence int
	chunk    int
}

// streamKeys are those that come in two casings.
type streamKeys struct{ stream, call, account, sequence, custom, format, rate, bits string }

var (
	snakeKeys = streamKeys{
		"stream_sid",
		"call_sid",
		"account_sid",
		"sequence_number",
		"custom_parameters",
		"media_format",
		"sample_rate",
		"bit_rate",
	}
	camelKeys = streamKeys{
		"streamSid",
		"callSid",
		"accountSid",
		"sequenceNumber",
		"customParameters",
		"mediaFormat",
		"sampleRate",
		"bitRate",
	}
)

// extraKeys look like what a careless parser would fall for.
const extraKeys = `,"x_extra":{"event":"stop","list":[1,{"payload":"AAAA"},"}"],"text":"\"media\":{\"}"}`

func newSpeller(s Stream) *speller {
	w := &speller{s: s, keys: snakeKeys, sid: quote(s.StreamSID)}
	if s.Quirks.CamelCase {
		w.keys = camelKeys
	}
	return w
}

func quote(s string) string {
	b, _ := json.Marshal(s) // a string always can be
	return string(b)
}

// appendNumber writes a number in the chosen style; alwaysQuoted ones are strings in both.
func (w *speller) appendNumber(dst []byte, n int64, alwaysQuoted bool) []byte {
	if !alwaysQuoted && w.s.Quoting == Numbers {
		return strconv.AppendInt(dst, n, 10)
	}
	return append(strconv.AppendInt(append(dst, '"'), n, 10), '"')
}

// head begins a numbered message.
func (w *speller) head(dst []byte, event string) []byte {
	w.sequence++
	dst = append(dst, `{"event":"`+event+`","`+w.keys.sequence+`":`...)
	dst = w.appendNumber(dst, int64(w.sequence), false)
	dst = append(dst, `,"`+w.keys.stream+`":`+w.sid...)
	if w.s.Quirks.ExtraKeys {
		dst = append(dst, extraKeys...)
	}
	return dst
}

func (w *speller) start(custom map[string]string) []byte {
	encoding := "raw"
	bits := "128"
	if w.s.Quoting == Strings { // the page that shows everything quoted shows these as well
		encoding = "audio/x-raw"
		bits = "16"
	}
	body := map[string]any{
		w.keys.stream:  w.s.StreamSID,
		w.keys.call:    w.s.CallSID,
		w.keys.account: w.s.AccountSID,
		"from":         w.s.From,
		"to":           w.s.To,
		w.keys.custom:  custom,
		w.keys.format:  map[string]string{"encoding": encoding, w.keys.rate: strconv.Itoa(w.s.Rate), w.keys.bits: bits},
	}
	data, _ := json.Marshal(body) // strings always can be
	return append(append(append(w.head(nil, "start"), `,"start":`...), data...), '}')
}

// media appends a message with audio that begins at a time of the stream.
func (w *speller) media(dst, audio []byte, at time.Duration) []byte {
	w.chunk++
	dst = append(w.head(dst, "media"), `,"media":{"chunk":`...)
	dst = append(w.appendNumber(dst, int64(w.chunk), false), `,"timestamp":`...)
	dst = append(w.appendNumber(dst, at.Milliseconds(), true), `,"payload":"`...)
	dst = append(base64.StdEncoding.AppendEncode(dst, audio), '"')
	if w.s.Quirks.ExtraKeys {
		dst = append(dst, extraKeys...)
	}
	return append(dst, "}}"...)
}

func (w *speller) mark(dst []byte, name string) []byte {
	return append(w.head(dst, "mark"), `,"mark":{"name":`+quote(name)+"}}"...)
}

func (w *speller) dtmf(dst []byte, digit string) []byte {
	return append(w.head(dst, "dtmf"), `,"dtmf":{"duration":"200","digit":`+quote(digit)+"}}"...)
}

func (w *speller) stop(dst []byte, reason string) []byte {
	return append(
		w.head(dst, "stop"),
		`,"stop":{"`+w.keys.call+`":`+quote(w.s.CallSID)+`,"`+w.keys.account+`":`+quote(w.s.AccountSID)+
			`,"reason":"`+reason+`"}}`...)
}

// customOf are the custom parameters that a URL's query stands for.
func customOf(u *url.URL) map[string]string {
	custom := map[string]string{}
	for name, values := range u.Query() {
		if name != "sample-rate" {
			custom[name] = values[0]
		}
	}
	return custom
}
