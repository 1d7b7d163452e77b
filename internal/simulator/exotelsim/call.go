package exotelsim

import (
	"cmp"
	"fmt"
	"net/url"
	"time"
)

// Call is one call as Exotel tells of it.
type Call struct {
	SID, From, To, RecordingURL string
	Started, Ended              time.Time
	// Account is named by leg events alone.
	Account string
	// Zone in which its times are written; IST if nil.
	Zone *time.Location
}

// ist is the zone in which Exotel writes its times.
var ist = time.FixedZone("IST", 5*3600+1800)

func (c Call) clock(t time.Time) string { return t.In(cmp.Or(c.Zone, ist)).Format(wallClock) }

func (c Call) seconds() string { return fmt.Sprint(int(c.Ended.Sub(c.Started).Seconds())) }

// Terminal is the fields of a call's terminal StatusCallback.
func (c Call) Terminal() url.Values {
	return url.Values{
		"CallSid":                 {c.SID},
		"EventType":               {"terminal"},
		"Status":                  {"completed"},
		"Direction":               {"outbound-api"},
		"From":                    {c.From},
		"To":                      {c.To},
		"DateUpdated":             {c.clock(time.Now())},
		"StartTime":               {c.clock(c.Started)},
		"EndTime":                 {c.clock(c.Ended)},
		"ConversationDuration":    {c.seconds()},
		"RecordingUrl":            {c.RecordingURL},
		"Legs[0][Status]":         {"completed"},
		"Legs[0][OnCallDuration]": {"41"},
	}
}

// Answered is the fields of its answered StatusCallback.
func (c Call) Answered() url.Values {
	return url.Values{
		"CallSid":   {c.SID},
		"EventType": {"answered"},
		"Status":    {"in-progress"},
		"From":      {c.From},
		"To":        {c.To},
	}
}

// Passthru is the query of a Passthru applet behind a Connect applet. The call is not over, so its end is the placeholder.
func (c Call) Passthru() url.Values {
	values := url.Values{
		"CallSid":                 {c.SID},
		"CallFrom":                {c.From},
		"CallTo":                  {c.To},
		"From":                    {c.From},
		"To":                      {c.To},
		"Direction":               {"incoming"},
		"Created":                 {c.clock(c.Started)},
		"StartTime":               {c.clock(c.Started)},
		"EndTime":                 {"1970-01-01 05:30:00"},
		"CurrentTime":             {c.clock(time.Now())},
		"CallType":                {"completed"},
		"DialCallStatus":          {"completed"},
		"DialCallDuration":        {c.seconds()},
		"flow_id":                 {"4711"},
		"digits":                  {`"1234"`},
		"Legs[0][OnCallDuration]": {c.seconds()},
	}
	if c.RecordingURL != "" {
		values.Set("RecordingUrl", c.RecordingURL)
	}
	return values
}

// StreamEnd is the query of a Passthru applet behind a Stream applet, after the end of the stream. The recording is the stream's.
func (c Call) StreamEnd() url.Values {
	values := c.Passthru()
	values.Del("RecordingUrl")
	for name, value := range map[string]string{
		"StreamSID":      "stream-" + c.SID,
		"Status":         "completed",
		"Duration":       c.seconds(),
		"DisconnectedBy": "user",
		"StreamUrl":      "wss://agent.example.com/media",
		"RecordingUrl":   c.RecordingURL,
	} {
		if value != "" {
			values.Set("Stream["+name+"]", value)
		}
	}
	return values
}

// Leg is the fields of an event of the legs API, to be sent with LegJSON: the leg was answered.
func (c Call) Leg() url.Values {
	const layout = "2006-01-02T15:04:05.000Z"
	at := func(t time.Time) []string { return []string{t.UTC().Format(layout)} }
	return url.Values{
		"event_sid":         {"event-" + c.SID},
		"event_type":        {"leg_action_event"},
		"event_name":        {"leg_answered"},
		"event_timestamp":   at(time.Now()),
		"action_sid":        {"action-" + c.SID},
		"data[leg_sid]":     {c.SID},
		"data[account_sid]": {c.Account},
		"data[contact_uri]": {c.From},
		"data[exophone]":    {c.To},
		"data[state]":       {"in-progress"},
		"data[direction]":   {"inbound"},
		"data[start_time]":  at(c.Started),
	}
}
