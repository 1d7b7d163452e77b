package mail

import (
	"embed"
	"fmt"
	html "html/template"
	"io"
	"strconv"
	"strings"
	text "text/template"
	"time"
	"unicode"
)

//go:embed templates
var files embed.FS

// template of either package.
type template interface {
	ExecuteTemplate(w io.Writer, name string, data any) error
}

// form is one template's two forms.
type form struct{ text, html template }

var forms = parse()

func parse() map[Template]form {
	all := map[Template]form{}
	for _, t := range Templates() {
		all[t] = form{
			text: text.Must(text.ParseFS(files, "templates/layout.txt", "templates/"+string(t)+".txt")),
			html: html.Must(html.ParseFS(files, "templates/layout.html", "templates/"+string(t)+".html")),
		}
	}
	return all
}

// view is Data as templates see it: one line each, of bounded length.
type view struct {
	Service, Code, Link, ValidFor, At, Device, Address string
}

func (d Data) view() view {
	return view{
		Service:  line(d.Service, 120),
		Code:     line(d.Code.Reveal(), 256),
		Link:     d.Link.Reveal(),
		ValidFor: inWords(d.ValidFor),
		At:       d.At.UTC().Format("2 January 2006, 15:04 UTC"),
		Device: line(
			strings.ReplaceAll(d.Device, "://", " "), 120,
		), // a browser says of itself what it likes: no links
		Address: line(d.Address, 64),
	}
}

// rendered is a message as people read it.
type rendered struct{ Subject, Text, HTML string }

func (m Message) render() (rendered, error) {
	form, ok := forms[m.Template]
	if !ok {
		return rendered{}, fmt.Errorf("template %s is not sent", m.Template)
	}
	view := m.Data.view()
	var out [3]strings.Builder
	for i, part := range []struct {
		from template
		name string
	}{{form.text, "subject"}, {form.text, "layout.txt"}, {form.html, "layout.html"}} {
		if err := part.from.ExecuteTemplate(&out[i], part.name, view); err != nil {
			return rendered{}, fmt.Errorf("template %s cannot be filled", m.Template) // the cause may quote a secret
		}
	}
	return rendered{Subject: out[0].String(), Text: out[1].String(), HTML: out[2].String()}, nil
}

// line makes one line of at most most characters of any text, so that the text cannot pass for another header or line.
func line(s string, most int) string {
	s = strings.ReplaceAll(s, "=?", "= ?") // which begins an encoded word in a header
	s = strings.Join(strings.FieldsFunc(strings.ToValidUTF8(s, " "), func(r rune) bool {
		return unicode.IsSpace(r) || !unicode.IsPrint(r)
	}), " ")
	if runes := []rune(s); len(runes) > most {
		return strings.TrimSpace(string(runes[:most-1])) + "…"
	}
	return s
}

// inWords says a length of time as people do, rounded down.
func inWords(d time.Duration) string {
	for _, unit := range []struct {
		name   string
		length time.Duration
	}{{"day", 24 * time.Hour}, {"hour", time.Hour}, {"minute", time.Minute}} {
		if n := int(d / unit.length); n >= 2 || (n == 1 && d < 2*unit.length && d%unit.length == 0) {
			return plural(n, unit.name)
		}
	}
	return plural(max(int(d/time.Second), 0), "second")
}

func plural(n int, unit string) string {
	if n == 1 {
		return "1 " + unit
	}
	return strconv.Itoa(n) + " " + unit + "s"
}
