package agentsim

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"

	"github.com/gorilla/websocket"

	"github.com/caly-dev/caly/internal/agent"
)

// fields of a JSON object. The protocols' casings are looked up one after the other.
type fields map[string]any

func (f fields) object(names ...string) fields {
	for _, n := range names {
		if o, ok := f[n].(map[string]any); ok {
			return o
		}
	}
	return nil
}

// text of a string or a number.
func (f fields) text(names ...string) string {
	for _, n := range names {
		switch v := f[n].(type) {
		case string:
			return v
		case float64:
			return strconv.FormatFloat(v, 'f', -1, 64)
		}
	}
	return ""
}

// takeJSON takes a message that is read in full.
func (c *call) takeJSON() error {
	var m fields
	if err := json.Unmarshal(c.frame, &m); err != nil {
		c.problem("no JSON: %v", err)
		return nil
	}
	event := m.text("event")
	if !slices.Contains(c.Events, event) && len(c.Events) < 100 {
		c.Events = append(c.Events, event)
	}
	switch event {
	case "connected":
	case "start":
		c.start(m)
	case "media":
		return c.heard([]byte(m.object("media").text("payload")))
	case "mark":
		c.Marks = append(c.Marks, first(m.object("mark").text("name"), m.text("name")))
	case "dtmf":
		c.Digits += first(m.object("dtmf").text("digit"), m.text("digit"))
	case "stop":
		c.Stopped = true
		c.StopReason = first(m.object("stop").text("reason"), m.text("reason"))
	default:
		c.problem("an event %.20q", event)
	}
	return nil
}

func (c *call) problem(format string, args ...any) {
	if c.Problem == "" {
		c.Problem = fmt.Sprintf(format, args...)
	}
}

func first(a, b string) string {
	if a != "" {
		return a
	}
	return b
}

func (c *call) start(m fields) {
	body := m.object("start")
	if c.o.Protocol == agent.PCM {
		body = m
	}
	format := body.object("media_format", "mediaFormat")
	c.Start = Start{
		StreamID:  body.text("stream_sid", "streamSid", "streamId"),
		CallID:    body.text("call_sid", "callSid", "callId"),
		AccountID: body.text("account_sid", "accountSid"),
		From:      body.text("from"),
		To:        body.text("to"),
		Encoding:  first(format.text("encoding"), body.text("encoding")),
		Custom:    map[string]string{},
	}
	c.Start.Rate, _ = strconv.Atoi(first(format.text("sample_rate", "sampleRate"), body.text("sampleRate")))
	custom := body.object("custom_parameters", "customParameters", "custom")
	for name := range custom {
		c.Start.Custom[name] = custom.text(name)
	}
	c.prefix = append(c.head("media"), `,"media":{"payload":"`...)
}

// head begins a message to the other side.
func (c *call) head(event string) []byte {
	key := "stream_sid"
	if c.o.Protocol == agent.Twilio {
		key = "streamSid"
	}
	return fmt.Appendf(nil, `{"event":%q,%q:%q`, event, key, c.Start.StreamID)
}

// burst drops what the other side has not played, and asks to be told of what it plays.
func (c *call) burst() error {
	messages := [][]byte{append(c.head("clear"), '}')}
	for i := range c.o.BurstMarks {
		name := fmt.Sprintf("burst-%d-%d", c.Pieces, i)
		messages = append(messages, fmt.Appendf(c.head("mark"), `,"mark":{"name":%q}}`, name))
	}
	if c.o.Protocol == agent.PCM {
		messages = [][]byte{[]byte(`{"event":"clear"}`)}
		for i := range c.o.BurstMarks {
			messages = append(messages, fmt.Appendf(nil, `{"event":"mark","name":"burst-%d-%d"}`, c.Pieces, i))
		}
	}
	for _, m := range messages {
		if err := c.send(websocket.TextMessage, m); err != nil {
			return err
		}
	}
	return nil
}
