package tenantapi

import (
	"context"
	"net/http"
	"strings"
	"time"

	"github.com/caly-dev/caly/dataplane/api"
	"github.com/caly-dev/caly/dataplane/problem"
	"github.com/caly-dev/caly/internal/exotel"
	"github.com/caly-dev/caly/internal/outcome"
	"github.com/caly-dev/caly/internal/store"
)

// known is empty for a state that is not known.
func known(s store.CallState) string {
	if s == store.CallUnknown {
		return ""
	}
	return s.String()
}

// Call is a call as far as its events told of it.
type Call struct {
	CallSID             string    `json:"callSid" doc:"Exotel's id of the call."`
	State               string    `json:"state" enum:"unknown,queued,ringing,in-progress,completed,busy,no-answer,failed,canceled"`
	ExotelState         string    `json:"exotelState,omitempty" doc:"State of the whole call, as Exotel says."`
	Direction           string    `json:"direction,omitempty" doc:"inbound, outbound-dial or outbound-api."`
	From                string    `json:"from,omitempty"`
	To                  string    `json:"to,omitempty"`
	StartedAt           time.Time `json:"startedAt,omitzero"`
	EndedAt             time.Time `json:"endedAt,omitzero"`
	ConversationSeconds int       `json:"conversationSeconds"`
	RecordingSeconds    int       `json:"recordingSeconds,omitempty" doc:"Of the recording, as Exotel tells it."`
	CustomField         string    `json:"customField,omitempty" doc:"What the call was begun with."`
	CreatedAt           time.Time `json:"createdAt" doc:"When the first event of the call came."`
	UpdatedAt           time.Time `json:"updatedAt"`
}

func callOf(c store.KeptCall) Call {
	return Call{
		CallSID:             c.SID,
		State:               c.State.String(),
		ExotelState:         known(c.Exotel),
		Direction:           c.Direction,
		From:                c.From,
		To:                  c.To,
		StartedAt:           utc(c.StartedAt),
		EndedAt:             utc(c.EndedAt),
		ConversationSeconds: c.ConversationSeconds,
		RecordingSeconds:    c.RecordingSeconds,
		CustomField:         c.CustomField,
		CreatedAt:           utc(c.CreatedAt),
		UpdatedAt:           utc(c.UpdatedAt),
	}
}

// utc leaves a zero time zero.
func utc(t time.Time) time.Time {
	if t.IsZero() {
		return t
	}
	return t.UTC()
}

// Leg is what is known of a leg, a dial attempt or an agent of a call.
type Leg struct {
	Kind       string    `json:"kind" enum:"leg,dial,agent" doc:"An agent's presence says nothing of the call."`
	Number     string    `json:"number,omitempty"`
	Agent      string    `json:"agent,omitempty" doc:"Address or ID of the agent."`
	State      string    `json:"state,omitempty" doc:"As a call's."`
	Seconds    int       `json:"onCallSeconds"`
	Presence   string    `json:"presence,omitempty" enum:"busy,free"`
	ReportedAt time.Time `json:"reportedAt,omitzero" doc:"When it was last reported, by the sender's clock."`
}

func legOf(l store.Leg) Leg {
	return Leg{
		Kind:       string(l.Kind),
		Number:     l.Number,
		Agent:      l.Agent,
		State:      known(l.State),
		Seconds:    l.Seconds,
		Presence:   l.Presence.String(),
		ReportedAt: utc(l.At),
	}
}

// Stream is what was told of an audio stream of a call after its end.
type Stream struct {
	StreamSID       string `json:"streamSid"`
	Status          string `json:"status,omitempty"`
	DurationSeconds int    `json:"durationSeconds"`
	DisconnectedBy  string `json:"disconnectedBy,omitempty"`
	Error           string `json:"error,omitempty"`
	DetailedStatus  string `json:"detailedStatus,omitempty"`
}

type callsQuery struct {
	Paging
	Span
	State     string `query:"state" enum:"unknown,queued,ringing,in-progress,completed,busy,no-answer,failed,canceled"`
	Direction string `query:"direction" enum:"inbound,outbound-dial,outbound-api"`
	From      string `query:"from" pattern:"^[ -~]{1,128}$" doc:"The caller's number, in any spelling."`
	To        string `query:"to" pattern:"^[ -~]{1,128}$" doc:"The called number, in any spelling."`
}

func (q *callsQuery) filter() (f store.CallFilter, err error) {
	f.Page, err = page(q.Paging, q.Span)
	f.Direction = q.Direction
	f.From = spellings(q.From)
	f.To = spellings(q.To)
	if q.State != "" {
		state := outcome.Named(q.State)
		f.State = &state
	}
	return f, err
}

// spellings returns the texts of a number to look for, nil for none. A plus sign that was not escaped reads as a
// blank in a query.
func spellings(number string) []string {
	if number == "" {
		return nil
	}
	if rest, ok := strings.CutPrefix(number, " "); ok {
		number = "+" + rest
	}
	return exotel.Spellings(number)
}

type callPath struct {
	CallSID string `path:"callSid" pattern:"^[A-Za-z0-9_-]{1,64}$"`
}

type callOut struct {
	Body struct {
		Call
		Legs       []Leg       `json:"legs"`
		Streams    []Stream    `json:"streams"`
		Recordings []Recording `json:"recordings"`
	}
}

const callsTag = "Calls"

func (h handlers) calls(a *api.API) {
	api.Register(a, api.Operation{
		Method:  http.MethodGet,
		Path:    "/api/calls",
		ID:      "listCalls",
		Tag:     callsTag,
		Access:  api.SignedIn,
		Summary: "Calls, the newest first",
		Description: "In the order in which the first event of each came. A page is found through an index; with " +
			"state, direction, from or to all calls " +
			"are looked at until it is full, so give since with them where there are many.",
	}, h.listCalls)
	api.Register(a, api.Operation{
		Method:  http.MethodGet,
		Path:    "/api/calls/{callSid}",
		ID:      "getCall",
		Tag:     callsTag,
		Access:  api.SignedIn,
		Summary: "A call with its legs, streams and recordings",
		Errors:  []problem.Code{problem.NotFound},
	}, h.getCall)
}

func (h handlers) listCalls(ctx context.Context, in *callsQuery) (*list[Call], error) {
	callFilter, err := in.filter()
	if err != nil {
		return nil, err
	}
	rows, more, err := h.Store.Calls(ctx, tenantOf(ctx), callFilter)
	if err != nil {
		return nil, err
	}
	return listOf(rows, more, callOf, func(c store.KeptCall) store.Position {
		return store.Position{
			At: c.CreatedAt,
			ID: c.SID,
		}
	}), nil
}

func (h handlers) getCall(ctx context.Context, in *callPath) (*callOut, error) {
	callWithAll, err := h.Store.CallBySID(ctx, tenantOf(ctx), in.CallSID)
	if err != nil {
		return nil, found("call", err)
	}
	out := &callOut{}
	out.Body.Call = callOf(callWithAll.KeptCall)
	for _, l := range callWithAll.Legs {
		out.Body.Legs = append(out.Body.Legs, legOf(l))
	}
	for _, s := range callWithAll.Streams {
		out.Body.Streams = append(out.Body.Streams, Stream{
			StreamSID:       s.SID,
			Status:          s.Status,
			DurationSeconds: s.Seconds,
			DisconnectedBy:  s.DisconnectedBy,
			Error:           s.Error,
			DetailedStatus:  s.DetailedStatus,
		})
	}
	for _, r := range callWithAll.Recordings {
		out.Body.Recordings = append(out.Body.Recordings, recordingOf(r))
	}
	return out, nil
}
