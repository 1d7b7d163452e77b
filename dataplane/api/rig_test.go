package api_test

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/caly-dev/caly/dataplane/api"
	"github.com/caly-dev/caly/dataplane/api/apitest"
	"github.com/caly-dev/caly/dataplane/problem"
	"github.com/caly-dev/caly/internal/tenantconfig"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// thing has one field of each kind that a body may have.
type thing struct {
	Name  string            `json:"name" minLength:"2" maxLength:"20" doc:"What it is called."`
	Email string            `json:"email,omitempty" format:"email"`
	Count int               `json:"count,omitempty" minimum:"0" maximum:"9"`
	Kind  string            `json:"kind,omitempty" enum:"small,large"`
	Parts []part            `json:"parts,omitempty" maxItems:"3"`
	Notes map[string]string `json:"notes,omitempty"`
}

type part struct {
	Size int `json:"size" minimum:"1"`
}

type thingInput struct {
	Dry  bool `query:"dry"`
	Body thing
}

type thingOutput struct {
	Location string `header:"Location"`
	Body     struct {
		ID    string   `json:"id"`
		Thing thing    `json:"thing"`
		Tags  []string `json:"tags"`
	}
}

type listInput struct {
	ID    string `path:"id" maxLength:"8"`
	Limit int    `query:"limit" minimum:"1" maximum:"100" default:"10"`
}

// seen is what a handler was told of its request.
type seen struct {
	Tenant, UserID, SessionID, Role, Client, Device, RequestID string
	Limit                                                      int
	Deadline                                                   bool
}

type seenOutput struct{ Body seen }

func see(ctx context.Context, limit int) (*seenOutput, error) {
	out := &seenOutput{}
	out.Body = seen{
		Client:    api.ClientOf(ctx).String(),
		Device:    api.DeviceOf(ctx),
		RequestID: api.RequestID(ctx),
		Limit:     limit,
	}
	if t := api.TenantOf(ctx); t != nil {
		out.Body.Tenant = t.ID
	}
	if principal := api.PrincipalOf(ctx); principal != nil {
		out.Body.UserID = principal.UserID
		out.Body.SessionID = principal.SessionID
		out.Body.Role = principal.Role
	}
	_, out.Body.Deadline = ctx.Deadline()
	return out, nil
}

// newRig is an API with one operation of each kind. Its tokens are "good" (an agent) and "admin".
func newRig(change ...func(*api.Options)) *apitest.Rig {
	rig := apitest.New(change...)
	rig.SignIn("good", "user-1", "session-1", "agent")
	rig.SignIn("admin", "user-2", "session-2", "admin")
	api.Register(rig.API, api.Operation{
		Method:      http.MethodPost,
		Path:        "/api/auth/things",
		ID:          "makeThing",
		Tag:         "things",
		Access:      api.Public,
		Summary:     "Make a thing",
		Description: "First.\n\nWith `code` and <b>.",
		Status:      http.StatusCreated,
		Errors:      []problem.Code{problem.Conflict},
	},
		func(_ context.Context, in *thingInput) (*thingOutput, error) {
			out := &thingOutput{Location: "/api/things/1"}
			out.Body.ID = "1"
			out.Body.Thing = in.Body
			return out, nil
		})
	api.Register(rig.API, api.Operation{
		Method:  http.MethodGet,
		Path:    "/api/things/{id}",
		ID:      "getThing",
		Tag:     "things",
		Access:  api.SignedIn,
		Summary: "Get a thing",
	}, func(ctx context.Context, in *listInput) (*seenOutput, error) { return see(ctx, in.Limit) })
	api.Register(rig.API, api.Operation{
		Method:  http.MethodDelete,
		Path:    "/api/things/{id}",
		ID:      "deleteThing",
		Tag:     "things",
		Access:  api.Roles("admin"),
		Summary: "Delete a thing",
	}, func(context.Context, *struct {
		ID string `path:"id"`
	}) (*struct{}, error) {
		return nil, nil //nolint:nilnil // as huma has it: 204
	})
	api.Register(rig.API, api.Operation{
		Method:  http.MethodGet,
		Path:    "/api/auth/who",
		ID:      "who",
		Tag:     "auth",
		Access:  api.Public,
		Summary: "Say who asks",
	}, func(ctx context.Context, _ *struct{}) (*seenOutput, error) { return see(ctx, 0) })
	return rig
}

// failing is a rig whose GET /api/fail fails with an error.
func failing(err error, change ...func(*api.Options)) *apitest.Rig {
	rig := newRig(change...)
	api.Register(rig.API, api.Operation{
		Method:  http.MethodGet,
		Path:    "/api/fail",
		ID:      "fail",
		Tag:     "things",
		Access:  api.SignedIn,
		Summary: "Fail",
	},
		func(context.Context, *struct{}) (*struct{}, error) { return nil, err })
	return rig
}

// request is one without a body, from a known address.
func request(method, target string, headers ...string) *http.Request {
	req := httptest.NewRequest(method, target, nil)
	req.RemoteAddr = "192.0.2.7:40000"
	for _, h := range headers {
		name, value, _ := strings.Cut(h, ": ")
		if name == "Host" {
			req.Host = value
			continue
		}
		req.Header.Add(name, value)
	}
	return req
}

func tenantNamed(id string, change ...func(*tenantconfig.Tenant)) *tenantconfig.Tenant {
	t := apitest.NewTenant()
	t.ID = id
	t.UID = "uid-" + id
	for _, f := range change {
		f(t)
	}
	return t
}

var errSecret = errors.New("canary: the cause of a failure")

var quiet = slog.New(slog.DiscardHandler)
