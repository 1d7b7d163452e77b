package api

import (
	"context"
	"reflect"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"github.com/caly-dev/caly/dataplane/problem"
)

// Access says who may call an operation.
type Access struct {
	kind  kind
	roles []string
}

type kind int

const (
	public kind = iota
	signedIn
	testers
)

var (
	// Public operations are for anybody who names a tenant with accounts.
	Public = Access{kind: public}
	// SignedIn operations need an access token, with any role.
	SignedIn = Access{kind: signedIn}
)

// Roles is the access of callers with an access token and one of the roles.
func Roles(roles ...string) Access { return Access{kind: signedIn, roles: roles} }

// defaultMaxBody is the largest body of an operation that says nothing else, in bytes.
const defaultMaxBody = 16 << 10

// Operation is one method of one path.
type Operation struct {
	// Method and Path, with parameters in braces: GET /api/calls/{sid}.
	Method, Path string
	// ID is unique, in camelCase. Summary is a line, Description Markdown, Tag the heading it stands under.
	ID, Summary, Description, Tag string
	Access                        Access
	// Status of success; 0: 200 with a body, 204 without.
	Status int
	// MaxBody in bytes; 0 means defaultMaxBody.
	MaxBody int64
	// Errors are those that the operation adds to the frame's.
	Errors []problem.Code
}

// Register adds an operation. I is what huma reads a request into: fields with the tags path, query and header, and Body; O is what
// it answers with: fields with the tag header, and Body. A handler returns a *problem.Problem, or any other error. It panics on an
// operation that is not whole.
func Register[I, O any](a *API, op Operation, h func(context.Context, *I) (*O, error)) {
	op.check()
	a.m.seconds.WithLabelValues(op.ID)
	_, takesBody := reflect.TypeFor[I]().FieldByName("Body")
	if op.MaxBody == 0 {
		op.MaxBody = defaultMaxBody
	}
	huma.Register(a.huma, a.describe(op, takesBody), func(ctx context.Context, in *I) (*O, error) {
		out, err := h(ctx, in)
		if err != nil {
			return nil, a.explain(ctx, err)
		}
		return out, nil
	})
}

func (op Operation) check() {
	if op.Method == "" || op.ID == "" || op.Summary == "" || op.Tag == "" || !strings.HasPrefix(op.Path, "/api/") ||
		strings.HasSuffix(op.Path, "/") {
		panic("api: operation " + op.Method + " " + op.Path + " lacks a method, id, summary, tag or a path below /api/")
	}
	for _, code := range op.Errors {
		if problem.Of(code).Code != code {
			panic("api: operation " + op.ID + " answers with " + string(code) + ", which is not one of the codes")
		}
	}
}

// describe makes huma's operation of ours. Bodies are bounded and read by the frame, so huma must not do it too: its timeout of -1 takes
// off the frame's, which net/http would take for the peer's hanging up if it ran out while the handler runs.
func (a *API) describe(op Operation, takesBody bool) huma.Operation {
	return huma.Operation{
		OperationID:                  op.ID,
		Method:                       op.Method,
		Path:                         op.Path,
		Summary:                      op.Summary,
		Description:                  op.Description,
		Tags:                         []string{op.Tag},
		DefaultStatus:                op.Status,
		MaxBodyBytes:                 -1,
		BodyReadTimeout:              -1,
		RejectUnknownQueryParameters: true,
		Parameters:                   tenantParameters(op),
		Security:                     security(op.Access),
		Responses:                    a.responses(op, takesBody),
		Middlewares:                  huma.Middlewares{a.admit(op, takesBody)},
		Extensions:                   extensions(op, takesBody),
	}
}

// String is what the document calls it.
func (a Access) String() string {
	switch {
	case a.kind == public:
		return "public"
	case a.kind == testers:
		return "test token"
	case len(a.roles) == 0:
		return "signed in"
	}
	return strings.Join(a.roles, ", ")
}
