package api

import (
	"bytes"
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"encoding/hex"
	"html/template"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/caly-dev/caly/dataplane/problem"
)

//go:embed page.css
var pageStyle string

//go:embed page.gohtml
var pageText string

var pageTemplate = template.Must(template.New("page").Funcs(template.FuncMap{
	"prose":  prose,
	"fields": captioned,
}).Parse(pageText))

// asset is an answer that does not change while the process lives.
type asset struct {
	kind, etag string
	body       []byte
}

func newAsset(kind string, body []byte) asset {
	sum := sha256.Sum256(body)
	return asset{kind, `"` + hex.EncodeToString(sum[:16]) + `"`, body}
}

func (s asset) serve(w http.ResponseWriter, r *http.Request) {
	header := w.Header()
	header.Set("Cache-Control", "public, max-age=300")
	header.Set("Content-Type", s.kind)
	header.Set("ETag", s.etag)
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(s.body))
}

func (a *API) documentAsset() asset { return newAsset("application/json", a.Document()) }

func (a *API) pageAsset() asset { return newAsset("text/html; charset=utf-8", a.Page()) }

// policy allows the page its own style and nothing else.
func policy() string {
	sum := sha256.Sum256([]byte(pageStyle))
	return "default-src 'none'; style-src 'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) +
		"'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
}

func (a *API) servePage(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Security-Policy", policy())
	w.Header().Set("Referrer-Policy", "no-referrer")
	a.page().serve(w, r)
}

// view is what the page shows.
type view struct {
	Title, Description string
	Style              template.CSS
	Tags               []tagView
	Problems           []problem.Row
}

type tagView struct {
	Name       string
	Operations []operationView
}

type operationView struct {
	ID, Method, Path, Summary, Description, Access string
	Parameters, Body, Answer                       []fieldView
	Status                                         string
	Problems                                       []string // codes
}

type fieldView struct {
	Name, Type, Where, Says string
	Required                bool
}

// table is what the template's own template of that name shows.
type table struct {
	Caption string
	Fields  []fieldView
}

func captioned(caption string, fields []fieldView) table { return table{caption, fields} }

// Page is the document for people, in HTML.
func (a *API) Page() []byte {
	doc := a.huma.OpenAPI()
	v := view{
		Title:       doc.Info.Title,
		Description: doc.Info.Description,
		Style:       template.CSS(pageStyle), //nolint:gosec // our own
		Problems:    problem.Table(),
	}
	for _, tag := range doc.Tags {
		v.Tags = append(v.Tags, tagView{Name: tag.Name, Operations: a.operationsOf(tag.Name)})
	}
	var b bytes.Buffer
	if err := pageTemplate.Execute(&b, v); err != nil {
		panic(err) // a defect of the template's
	}
	return b.Bytes()
}

func (a *API) operationsOf(tag string) []operationView {
	var all []operationView
	for _, item := range a.huma.OpenAPI().Paths {
		for _, op := range []*huma.Operation{item.Get, item.Post, item.Put, item.Patch, item.Delete} {
			if op != nil && slices.Contains(op.Tags, tag) {
				all = append(all, a.operationView(op))
			}
		}
	}
	slices.SortFunc(
		all, func(x, y operationView) int { return strings.Compare(x.Path+" "+x.Method, y.Path+" "+y.Method) },
	)
	return all
}

func (a *API) operationView(op *huma.Operation) operationView {
	access, _ := op.Extensions["x-caly-access"].(string)
	v := operationView{
		ID:          op.OperationID,
		Method:      op.Method,
		Path:        op.Path,
		Summary:     op.Summary,
		Description: op.Description,
		Access:      access,
	}
	for _, p := range op.Parameters {
		if p.Ref == "" {
			v.Parameters = append(v.Parameters, fieldView{
				Name:     p.Name,
				Where:    p.In,
				Type:     typeOf(p.Schema),
				Says:     says(p.Schema),
				Required: p.Required,
			})
		}
	}
	if op.RequestBody != nil {
		v.Body = a.fields("", op.RequestBody.Content["application/json"], 0)
	}
	statuses := []string{}
	for status, response := range op.Responses {
		statuses = append(statuses, status)
		if response.Ref == "" {
			v.Status = status
			v.Answer = a.fields("", response.Content["application/json"], 0)
		}
	}
	slices.Sort(statuses)
	for _, status := range statuses {
		if _, codes, ok := strings.Cut(op.Responses[status].Ref, status+"-"); ok {
			v.Problems = append(v.Problems, strings.Split(codes, "-")...)
		}
	}
	slices.Sort(v.Problems)
	v.Problems = slices.Compact(v.Problems) // a code may have two statuses
	return v
}

var codeSpan = regexp.MustCompile("`([^`]+)`")

// prose makes paragraphs of text, and code of what stands in backticks.
func prose(text string) template.HTML {
	var b strings.Builder
	for paragraph := range strings.SplitSeq(text, "\n\n") {
		if paragraph != "" {
			b.WriteString(
				"<p>" + codeSpan.ReplaceAllString(template.HTMLEscapeString(paragraph), "<code>$1</code>") + "</p>\n",
			)
		}
	}
	return template.HTML(b.String()) //nolint:gosec // escaped above
}
