package api

import (
	"bytes"
	"encoding/json"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"github.com/caly-dev/caly/dataplane/problem"
)

const (
	documentPath = "/openapi.json"
	pagePath     = "/docs"
)

// Names of components of the document.
const (
	bearerScheme    = "accessToken"
	testerScheme    = "testToken"
	tenantParameter = "tenant"
)

const description = `The API of a tenant's people: their accounts, their calls, their recordings.

A request without an access token names its tenant: by /t/{namespace}/{tenant} before the path, by the tenant's own host, or by ` +
	tenantHeader + `. An access token is good for its own tenant alone. A browser names the tenant by path or host, since it asks for ` +
	`permission without the header; the origin must be one of the tenant's spec.auth.allowedOrigins.

Every error is a problem (RFC 9457) with a code from a closed set. Requests of signed-in users count; RateLimit and ` +
	`RateLimit-Policy tell what is left.`

// config is huma's, without what it would serve by itself.
func (a *API) config() huma.Config {
	format := huma.Format{Marshal: marshal, Unmarshal: unmarshal}
	registry := huma.NewMapRegistry("#/components/schemas/", huma.DefaultSchemaNamer)
	registry.Schema(reflect.TypeFor[problem.Problem](), true, "")
	registry.Map()["Problem"].Properties["code"].Enum = codes()
	doc := &huma.OpenAPI{
		OpenAPI: "3.1.0",
		Info:    &huma.Info{Title: "Caly tenant API", Version: "1", Description: description},
		Servers: []*huma.Server{{URL: "/", Description: "The tenant is named by host, header or token."},
			{
				URL:         "/t/{namespace}/{tenant}",
				Description: "The tenant is named by path.",
				Variables: map[string]*huma.ServerVariable{
					"namespace": {Default: "default", Description: "The Tenant's namespace."},
					"tenant":    {Default: "tenant", Description: "The Tenant's name."},
				},
			}},
		Components: &huma.Components{
			Schemas:   registry,
			Responses: map[string]*huma.Response{},
			Parameters: map[string]*huma.Param{tenantParameter: {
				Name:        tenantHeader,
				In:          "header",
				Description: "The tenant, if neither path nor host names it: {namespace}/{tenant}.",
				Schema:      &huma.Schema{Type: "string", Pattern: "^[a-z0-9.-]+/[a-z0-9.-]+$"},
			}},
			SecuritySchemes: map[string]*huma.SecurityScheme{bearerScheme: {
				Type:         "http",
				Scheme:       "bearer",
				BearerFormat: "JWT",
				Description:  "The accessToken of a login or refresh.",
			}},
		},
		OnAddOperation: []huma.AddOpFunc{addTag},
	}
	if a.o.Mode == Development {
		doc.Components.SecuritySchemes[testerScheme] = &huma.SecurityScheme{
			Type:        "http",
			Scheme:      "bearer",
			Description: "DEV_TEST_TOKEN.",
		}
	}
	return huma.Config{
		OpenAPI:       doc,
		Formats:       map[string]huma.Format{"application/json": format, "json": format},
		DefaultFormat: "application/json",
	}
}

func codes() []any {
	var all []any
	for _, row := range problem.Table() {
		all = append(all, string(row.Code))
	}
	return all
}

// addTag keeps the list of tags, sorted.
func addTag(doc *huma.OpenAPI, op *huma.Operation) {
	for _, name := range op.Tags {
		i, found := slices.BinarySearchFunc(
			doc.Tags, name, func(t *huma.Tag, name string) int { return strings.Compare(t.Name, name) },
		)
		if !found {
			doc.Tags = slices.Insert(doc.Tags, i, &huma.Tag{Name: name})
		}
	}
}

func tenantParameters(op Operation) []*huma.Param {
	if op.Access.kind == testers {
		return nil
	}
	return []*huma.Param{{Ref: "#/components/parameters/" + tenantParameter}}
}

func security(access Access) []map[string][]string {
	switch access.kind {
	case signedIn:
		return []map[string][]string{{bearerScheme: {}}}
	case testers:
		return []map[string][]string{{testerScheme: {}}}
	}
	return []map[string][]string{}
}

func extensions(op Operation, takesBody bool) map[string]any {
	all := map[string]any{"x-caly-access": op.Access.String()}
	if takesBody {
		all["x-caly-max-body"] = op.MaxBody
	}
	return all
}

// errorsOf are the codes that an operation may answer with: its own and the frame's.
func errorsOf(op Operation, takesBody bool) []problem.Code {
	all := append(
		[]problem.Code{problem.Validation, problem.Timeout, problem.Unavailable, problem.Database, problem.Internal},
		op.Errors...)
	if op.Access.kind == public {
		all = append(all, problem.NotFound, problem.Forbidden)
	} else {
		all = append(all, problem.Authentication, problem.InvalidToken)
	}
	if op.Access.kind == signedIn {
		all = append(all, problem.RateLimited)
	}
	if len(op.Access.roles) > 0 || op.Access.kind == testers {
		all = append(all, problem.Forbidden)
	}
	if takesBody {
		all = append(all, problem.PayloadTooLarge, problem.UnsupportedMediaType)
	}
	return all
}

// responses are the operation's problems by status. Each is a component, named by its codes.
func (a *API) responses(op Operation, takesBody bool) map[string]*huma.Response {
	all := errorsOf(op, takesBody)
	out := map[string]*huma.Response{}
	byStatus := map[int][]problem.Row{}
	for _, row := range problem.Table() { // the order of the table, whatever that of the operation
		if slices.Contains(all, row.Code) {
			byStatus[row.Status] = append(byStatus[row.Status], row)
		}
		if row.Code == problem.Timeout && takesBody {
			byStatus[408] = append(byStatus[408], row)
		}
	}
	for status, rows := range byStatus {
		out[strconv.Itoa(status)] = &huma.Response{Ref: "#/components/responses/" + a.component(status, rows)}
	}
	return out
}

// component adds the response of some codes, and returns its name.
func (a *API) component(status int, rows []problem.Row) string {
	name := strconv.Itoa(status)
	says := []string{}
	for _, row := range rows {
		name += "-" + string(row.Code)
		says = append(says, "`"+string(row.Code)+"`: "+row.Means+". "+strings.ToUpper(row.Do[:1])+row.Do[1:]+".")
	}
	a.huma.OpenAPI().Components.Responses[name] = &huma.Response{
		Description: strings.Join(says, "\n\n"),
		Headers:     problemHeaders(status),
		Content: map[string]*huma.MediaType{
			"application/problem+json": {Schema: &huma.Schema{Ref: "#/components/schemas/Problem"}},
		},
	}
	return name
}

func problemHeaders(status int) map[string]*huma.Header {
	text := &huma.Schema{Type: "string"}
	number := &huma.Schema{Type: "integer"}
	switch status {
	case 401:
		return map[string]*huma.Header{"WWW-Authenticate": {Schema: text, Description: "RFC 6750."}}
	case 429:
		return map[string]*huma.Header{
			"Retry-After":      {Schema: number, Description: "Seconds to wait."},
			"RateLimit":        {Schema: text, Description: "What is left of the limit."},
			"RateLimit-Policy": {Schema: text, Description: "The limit."},
		}
	case 503:
		return map[string]*huma.Header{"Retry-After": {Schema: number, Description: "Seconds to wait."}}
	}
	return nil
}

// Document is the OpenAPI document in JSON: the same bytes for the same operations, in whatever order they were registered. It is
// whole once they all are.
func (a *API) Document() []byte {
	compact, err := json.Marshal(a.huma.OpenAPI())
	if err != nil {
		panic(err) // a defect of huma's or of a schema's
	}
	var b bytes.Buffer
	_ = json.Indent(&b, compact, "", "  ") // it was written just now
	b.WriteByte('\n')
	return b.Bytes()
}
