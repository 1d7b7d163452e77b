package tenantapi

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/caly-dev/caly/dataplane/api"
	"github.com/caly-dev/caly/dataplane/problem"
	"github.com/caly-dev/caly/internal/store"
)

// States of a stream session.
const (
	streamLive    = "live"
	streamClosing = "closing"
	streamEnded   = "ended"
)

// StreamSession is an audio stream between Exotel and the tenant's agent, live or ended.
type StreamSession struct {
	ID          string       `json:"id"`
	CallSID     string       `json:"callSid,omitempty" doc:"Exotel's id of the call. Absent until Exotel has told it."`
	StreamSID   string       `json:"streamSid,omitempty" doc:"Exotel's id of the stream. Absent until Exotel has told it."`
	State       string       `json:"state" enum:"live,closing,ended" doc:"closing: a close was requested."`
	Pod         string       `json:"pod" doc:"The pod that has it."`
	Agent       string       `json:"agent,omitempty" doc:"The host of the agent."`
	StartedAt   time.Time    `json:"startedAt"`
	LastSeenAt  time.Time    `json:"lastSeenAt" doc:"When its pod said last that it lives: every 10 seconds."`
	EndedAt     time.Time    `json:"endedAt,omitzero"`
	EndReason   string       `json:"endReason,omitempty" doc:"Why it ended, in a word."`
	Reconnected bool         `json:"reconnected" doc:"Its agent got a second connection. It is known at the end."`
	ToAgent     StreamCounts `json:"toAgent" doc:"As of lastSeenAt, while it is live."`
	ToExotel    StreamCounts `json:"toExotel" doc:"As of lastSeenAt, while it is live."`
}

// StreamCounts are of one direction of a stream.
type StreamCounts struct {
	Frames  int64 `json:"frames" doc:"Passed on."`
	Bytes   int64 `json:"bytes" doc:"Of these frames."`
	Dropped int64 `json:"dropped" doc:"Audio frames that a slow side did not get, or that a clear took back."`
}

func streamSessionOf(s store.StreamSession) StreamSession {
	out := StreamSession{
		ID:          s.ID,
		CallSID:     s.CallSID,
		StreamSID:   s.StreamSID,
		State:       streamLive,
		Pod:         s.Pod,
		Agent:       s.Agent,
		StartedAt:   utc(s.StartedAt),
		LastSeenAt:  utc(s.LastSeenAt),
		EndedAt:     utc(s.EndedAt),
		EndReason:   s.EndReason,
		Reconnected: s.Reconnected,
		ToAgent:     StreamCounts(s.ToAgent),
		ToExotel:    StreamCounts(s.ToExotel),
	}
	switch {
	case !s.EndedAt.IsZero():
		out.State = streamEnded
	case s.Closing:
		out.State = streamClosing
	}
	return out
}

type streamsQuery struct {
	Paging
	Span
	Live    bool   `query:"live" doc:"Only those that have not ended."`
	CallSID string `query:"callSid" pattern:"^[ -~]{1,128}$" doc:"Exactly as it is shown."`
}

func (q *streamsQuery) filter() (f store.StreamFilter, err error) {
	f.Page, err = page(q.Paging, q.Span)
	f.Live = q.Live
	f.CallSID = q.CallSID
	if err == nil && q.Cursor != "" && !store.ValidID(f.After.ID) {
		err = invalid("cursor", "is that of another list")
	}
	return f, err
}

type streamOut struct{ Body StreamSession }

type closingOut struct {
	Body struct {
		Closing int `json:"closing" doc:"Number of live streams that are being closed, including those that were asked to close before."`
	}
}

const streamsTag = "Streams"

func (h handlers) streams(a *api.API) {
	admins := api.Roles(store.RoleAdmin)
	api.Register(a, api.Operation{
		Method:      http.MethodGet,
		Path:        "/api/streams",
		ID:          "listStreams",
		Tag:         streamsTag,
		Access:      api.SignedIn,
		Summary:     "Audio streams, the newest first",
		Description: "In the order in which they started, live or ended. Those that have ended are kept for 30 days.",
	}, h.listStreams)
	api.Register(a, api.Operation{
		Method:  http.MethodGet,
		Path:    "/api/streams/{id}",
		ID:      "getStream",
		Tag:     streamsTag,
		Access:  api.SignedIn,
		Summary: "An audio stream",
		Errors:  []problem.Code{problem.NotFound},
	}, h.getStream)
	api.Register(a, api.Operation{
		Method:  http.MethodDelete,
		Path:    "/api/streams/{id}",
		ID:      "closeStream",
		Tag:     streamsTag,
		Access:  admins,
		Status:  http.StatusAccepted,
		Summary: "Close a live stream",
		Description: "Its pod closes it within a second or two. Exotel is told of a normal end, so its flow goes " +
			"on. A repeated request has the same answer.",
		Errors: []problem.Code{problem.NotFound, problem.Conflict},
	}, h.closeStream)
	api.Register(a, api.Operation{
		Method:  http.MethodPost,
		Path:    "/api/streams/close",
		ID:      "closeStreams",
		Tag:     streamsTag,
		Access:  admins,
		Status:  http.StatusAccepted,
		Summary: "Close all live streams of the tenant",
		Description: "As closing each. New streams are let in all the same: to keep them out, the platform suspends " +
			"the tenant.",
	}, h.closeStreams)
}

func (h handlers) listStreams(ctx context.Context, in *streamsQuery) (*list[StreamSession], error) {
	streamFilter, err := in.filter()
	if err != nil {
		return nil, err
	}
	rows, more, err := h.Store.StreamSessions(ctx, tenantOf(ctx), streamFilter)
	if err != nil {
		return nil, err
	}
	return listOf(rows, more, streamSessionOf, func(s store.StreamSession) store.Position {
		return store.Position{
			At: s.StartedAt,
			ID: s.ID,
		}
	}), nil
}

func (h handlers) getStream(ctx context.Context, in *uuidPath) (*streamOut, error) {
	streamSession, err := h.Store.StreamByID(ctx, tenantOf(ctx), in.ID)
	if err != nil {
		return nil, found("stream", err)
	}
	return &streamOut{streamSessionOf(streamSession)}, nil
}

func (h handlers) closeStream(ctx context.Context, in *uuidPath) (*streamOut, error) {
	streamSession, err := h.Store.CloseStream(ctx, tenantOf(ctx), in.ID, originOf(ctx))
	if errors.Is(err, store.ErrStreamEnded) {
		return nil, problem.New(problem.Conflict, "the stream has already ended")
	}
	if err != nil {
		return nil, found("stream", err)
	}
	return &streamOut{streamSessionOf(streamSession)}, nil
}

func (h handlers) closeStreams(ctx context.Context, _ *struct{}) (*closingOut, error) {
	n, err := h.Store.CloseStreams(ctx, tenantOf(ctx), originOf(ctx))
	if err != nil {
		return nil, err
	}
	out := &closingOut{}
	out.Body.Closing = n
	return out, nil
}
