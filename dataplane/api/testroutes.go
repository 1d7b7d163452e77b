package api

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"net/http"

	"github.com/caly-dev/caly/dataplane/problem"
)

// registerTestRoutes adds what tries the frame itself. In production the routes are not there, so that no token opens them.
func (a *API) registerTestRoutes() {
	if a.o.Mode != Development {
		return
	}
	access := Access{kind: testers}
	Register(a, Operation{
		Method:  http.MethodGet,
		Path:    "/api/test/ping",
		ID:      "testPing",
		Tag:     "test",
		Access:  access,
		Summary: "Answer",
	}, ping)
	Register(a, Operation{
		Method:  http.MethodPost,
		Path:    "/api/test/echo",
		ID:      "testEcho",
		Tag:     "test",
		Access:  access,
		Summary: "Answer with the body, if it is strictly JSON",
	}, echo)
	Register(a, Operation{
		Method:  http.MethodGet,
		Path:    "/api/test/error/{code}",
		ID:      "testError",
		Tag:     "test",
		Access:  access,
		Summary: "Answer with the problem of a code",
	}, fail)
	Register(a, Operation{
		Method:  http.MethodGet,
		Path:    "/api/test/panic",
		ID:      "testPanic",
		Tag:     "test",
		Access:  access,
		Summary: "Panic",
	}, func(context.Context, *struct{}) (*struct{}, error) { panic("asked for by a test") })
}

// admitTester accepts only requests with the test token. Without a configured token it refuses all.
func (a *API) admitTester(r *http.Request) *problem.Problem {
	if a.o.TestToken == "" {
		return problem.New(problem.Forbidden, "the test routes are disabled; set DEV_TEST_TOKEN to enable them")
	}
	raw, ok := bearer(r)
	if !ok {
		return noToken()
	}
	want := sha256.Sum256([]byte(a.o.TestToken.Reveal()))
	got := sha256.Sum256([]byte(raw))
	if subtle.ConstantTimeCompare(want[:], got[:]) != 1 {
		return badToken()
	}
	return nil
}

type pingOutput struct {
	Body struct {
		OK bool `json:"ok"`
	}
}

func ping(context.Context, *struct{}) (*pingOutput, error) {
	out := &pingOutput{}
	out.Body.OK = true
	return out, nil
}

type echoInput struct {
	Body any `required:"true"`
}

type echoOutput struct{ Body any }

func echo(_ context.Context, in *echoInput) (*echoOutput, error) {
	return &echoOutput{Body: in.Body}, nil
}

type failInput struct {
	Code string `path:"code" maxLength:"64"`
}

func fail(_ context.Context, in *failInput) (*struct{}, error) {
	row := problem.Of(problem.Code(in.Code))
	if string(row.Code) != in.Code {
		return nil, problem.New(problem.NotFound, "no problem has this code")
	}
	return nil, problem.New(row.Code, row.Means)
}
