package tenantapi

import (
	"context"
	"net/http"
	"time"

	"github.com/caly-dev/caly/dataplane/api"
	"github.com/caly-dev/caly/dataplane/problem"
	"github.com/caly-dev/caly/internal/store"
)

// uploading is what a leased recording is called outside.
const uploading = "uploading"

// Recording is the audio of a call. Where it came from is not shown: Exotel's links may let anybody fetch it.
type Recording struct {
	ID         string    `json:"id"`
	CallSID    string    `json:"callSid"`
	Source     string    `json:"source" enum:"exotel,capture" doc:"capture: by Caly, caller left and agent right."`
	State      string    `json:"state" enum:"pending,uploading,uploaded,failed"`
	Attempts   int       `json:"attempts" doc:"Attempts to upload it that ended."`
	NextTryAt  time.Time `json:"nextTryAt,omitzero" doc:"When the next attempt is due, of a pending one."`
	ErrorCode  string    `json:"errorCode,omitempty" doc:"Why it failed, or why an uploaded capture is incomplete."`
	Error      string    `json:"error,omitempty"`
	Size       int64     `json:"size,omitempty" doc:"In bytes, once it is uploaded."`
	SHA256     string    `json:"sha256,omitempty" doc:"In hex, once uploaded; of captures in parts if read back."`
	CreatedAt  time.Time `json:"createdAt" doc:"When it was heard of first."`
	FinishedAt time.Time `json:"finishedAt,omitzero" doc:"When it was uploaded, or given up."`
}

func recordingOf(r store.Recording) Recording {
	out := Recording{
		ID:         r.ID,
		CallSID:    r.CallSID,
		Source:     sourceOf(r),
		State:      string(r.State),
		Attempts:   r.Attempts,
		ErrorCode:  r.LastErrorCode,
		Error:      r.LastError,
		Size:       r.Size,
		SHA256:     r.SHA256,
		CreatedAt:  utc(r.CreatedAt),
		FinishedAt: utc(r.FinishedAt),
	}
	switch r.State {
	case store.StatePending:
		out.NextTryAt = utc(r.AvailableAt)
	case store.StateLeased:
		out.State = uploading
	case store.StateUploaded, store.StateFailed:
	}
	return out
}

func sourceOf(r store.Recording) string {
	if r.Captured {
		return "capture"
	}
	return "exotel"
}

type recordingsQuery struct {
	Paging
	Span
	CallSID string `query:"callSid" pattern:"^[A-Za-z0-9_-]{1,64}$"`
	State   string `query:"state" enum:"pending,uploading,uploaded,failed"`
}

func (q *recordingsQuery) filter() (f store.RecordingFilter, err error) {
	f.Page, err = page(q.Paging, q.Span)
	f.CallSID = q.CallSID
	f.State = store.RecordingState(q.State)
	if q.State == uploading {
		f.State = store.StateLeased
	}
	return f, err
}

type recordingPath struct {
	ID string `path:"id" pattern:"^[0-9a-f]{16}$"`
}

type recordingOut struct{ Body Recording }

const recordingsTag = "Recordings"

func (h handlers) recordings(a *api.API) {
	api.Register(a, api.Operation{
		Method:  http.MethodGet,
		Path:    "/api/recordings",
		ID:      "listRecordings",
		Tag:     recordingsTag,
		Access:  api.SignedIn,
		Summary: "Recordings, the newest first",
		Description: "In the order in which they were heard of first, whatever their state. One whose state changes " +
			"meanwhile keeps its place.",
	}, h.listRecordings)
	api.Register(a, api.Operation{
		Method:  http.MethodGet,
		Path:    "/api/recordings/{id}",
		ID:      "getRecording",
		Tag:     recordingsTag,
		Access:  api.SignedIn,
		Summary: "A recording",
		Errors:  []problem.Code{problem.NotFound},
	}, h.getRecording)
	api.Register(a, api.Operation{
		Method:  http.MethodGet,
		Path:    "/api/recordings/{id}/download",
		ID:      "downloadRecording",
		Tag:     recordingsTag,
		Access:  api.Roles(store.RoleAdmin, store.RoleAgent),
		Summary: "A link to download a recording",
		Description: "Whoever has the link can download this one recording for five minutes: from the tenant's own " +
			"store, without an access token.",
		Errors: []problem.Code{problem.NotFound, problem.Conflict},
	}, h.downloadRecording)
}

func (h handlers) listRecordings(ctx context.Context, in *recordingsQuery) (*list[Recording], error) {
	f, err := in.filter()
	if err != nil {
		return nil, err
	}
	rows, more, err := h.Store.ListRecordings(ctx, tenantOf(ctx), f)
	if err != nil {
		return nil, err
	}
	return listOf(rows, more, recordingOf, func(r store.Recording) store.Position {
		return store.Position{
			At: r.CreatedAt,
			ID: r.ID,
		}
	}), nil
}

func (h handlers) getRecording(ctx context.Context, in *recordingPath) (*recordingOut, error) {
	recording, err := h.Store.RecordingByID(ctx, tenantOf(ctx), in.ID)
	if err != nil {
		return nil, found("recording", err)
	}
	return &recordingOut{recordingOf(recording)}, nil
}
