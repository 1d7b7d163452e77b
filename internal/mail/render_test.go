package mail

import (
	"flag"
	"mime"
	"net/mail"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "write the golden files")

var when = time.Date(2026, 11, 5, 13, 37, 42, 0, time.UTC)

// examples are one message of each form.
var examples = map[string]Message{
	"verify_email": {VerifyEmail, "ann@example.com", Data{
		Service:  "Acme Support",
		Code:     "482913",
		ValidFor: 10 * time.Minute,
	}},
	"account_exists": {AccountExists, "ann@example.com", Data{Service: "Acme Support"}},
	"reset_password": {ResetPassword, "ann@example.com", Data{
		Service:  "Acme Support",
		Link:     "https://acme.example/reset?a=1&token=tok-canary",
		ValidFor: time.Hour,
	}},
	"reset_password_code": {ResetPassword, "ann@example.com", Data{
		Service:  "Acme Support",
		Code:     "crp1.Zm9vYmFyYmF6cXV4Zm9vYmFyYmF6cXV4",
		ValidFor: 30 * time.Minute,
	}},
	"password_changed": {PasswordChanged, "ann@example.com", Data{
		Service: "Acme Support",
		At:      when,
		Device:  "Mozilla/5.0 (X11; Linux) <b>Firefox</b>",
		Address: "192.0.2.7",
	}},
	"invitation": {Invitation, "ann@example.com", Data{
		Service:  "Acme Support",
		Link:     "https://acme.example/invited?token=tok-canary",
		ValidFor: 72 * time.Hour,
	}},
	"invitation_code": {Invitation, "ann@example.com", Data{
		Service:  "Acme Support",
		Code:     "crp1.Zm9vYmFyYmF6cXV4Zm9vYmFyYmF6cXV4",
		ValidFor: 72 * time.Hour,
	}},
	"sessions_ended": {SessionsEnded, "ann@example.com", Data{Service: "Acme Support", At: when}},
}

func golden(t *testing.T, name, got string) {
	t.Helper()
	file := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s (-want +got; -update writes it):\n%s", file, diff)
	}
}

func TestTemplates(t *testing.T) {
	for name, m := range examples {
		t.Run(name, func(t *testing.T) {
			if err := m.check(); err != nil {
				t.Fatal(err)
			}
			rendered, err := m.render()
			if err != nil {
				t.Fatal(err)
			}
			golden(t, name+".txt", "Subject: "+rendered.Subject+"\n\n"+rendered.Text)
			golden(t, name+".html", rendered.HTML)
		})
	}
	seen := map[Template]bool{}
	for _, m := range examples {
		seen[m.Template] = true
	}
	for _, name := range Templates() {
		if !seen[name] {
			t.Errorf("%s has no example", name)
		}
	}
}

// TestReadable verifies the rules that all templates follow: accessible HTML without remote content, short lines, and
// the code or link in full.
func TestReadable(t *testing.T) {
	remote := regexp.MustCompile(`(?i)src=|url\(|<link|<script|<img|<form|@import|\son[a-z]+=`)
	for name, m := range examples {
		t.Run(name, func(t *testing.T) {
			rendered, err := m.render()
			if err != nil {
				t.Fatal(err)
			}
			if found := remote.FindString(rendered.HTML); found != "" {
				t.Errorf("the HTML loads or runs something: %q", found)
			}
			for _, part := range []string{`<html lang="en"`, "<title>" + rendered.Subject, "<h1", "<main", `name="viewport"`} {
				if strings.Count(rendered.HTML, part) != 1 {
					t.Errorf("the HTML has %d of %q, want one", strings.Count(rendered.HTML, part), part)
				}
			}
			for _, l := range strings.Split(rendered.Text, "\n") {
				if len(l) > 78 {
					t.Errorf("a line of %d bytes: %q", len(l), l)
				}
			}
			if strings.Contains(rendered.Subject, m.Data.Code.Reveal()) && m.Data.Code != "" {
				t.Error("the code is in the subject, which shows on locked screens")
			}
			for _, secret := range []string{m.Data.Code.Reveal(), m.Data.Link.Reveal()} {
				if !strings.Contains(rendered.Text, secret) {
					t.Error("the text lacks the code or link as it is")
				}
			}
			if link := strings.ReplaceAll(m.Data.Link.Reveal(), "&", "&amp;"); link != "" &&
				!strings.Contains(rendered.HTML, `<a href="`+link+`">`+link+`</a>`) {
				t.Error("the HTML lacks the link, to be seen and followed")
			}
		})
	}
}

func TestCheck(t *testing.T) {
	const to = "ann@example.com"
	for name, c := range map[string]struct {
		m    Message
		want string
	}{
		"none needs nothing": {Message{Template: None, To: to}, ""},
		"unknown template":   {Message{Template: "welcome", To: to}, `no template is called "welcome"`},
		"no code": {Message{
			Template: VerifyEmail,
			To:       to,
			Data:     Data{ValidFor: 1},
		}, "verify_email needs Code"},
		"no time": {Message{
			Template: VerifyEmail,
			To:       to,
			Data:     Data{Code: "1"},
		}, "verify_email needs ValidFor"},
		"neither link nor any": {Message{
			Template: ResetPassword,
			To:       to,
			Data:     Data{ValidFor: 1},
		}, "reset_password needs Link or Code"},
		"invitation": {Message{Template: Invitation, To: to}, "invitation needs Link or Code"},
		"no moment":  {Message{Template: PasswordChanged, To: to}, "password_changed needs At"},
		"script": {Message{
			Template: Invitation,
			To:       to,
			Data:     Data{Link: "javascript:alert(1)", ValidFor: 1},
		}, "not an http or https URL"},
		"no host": {Message{
			Template: Invitation,
			To:       to,
			Data:     Data{Link: "https:///x", ValidFor: 1},
		}, "not an http or https URL"},
		"a line's end": {Message{
			Template: Invitation,
			To:       to,
			Data:     Data{Link: "https://a/\r\nx", ValidFor: 1},
		}, "not an http or https URL"},
		"no recipient": {Message{Template: AccountExists}, "not a bare email address"},
	} {
		t.Run(name, func(t *testing.T) {
			err := c.m.check()
			if (err == nil) != (c.want == "") || (err != nil && !strings.Contains(err.Error(), c.want)) {
				t.Errorf("err = %v, want %q", err, c.want)
			}
		})
	}
}

func TestCheckAddress(t *testing.T) {
	for address, want := range map[string]bool{
		"ann@example.com":                  true,
		"ann+tag@sub.example.com":          true,
		"jürgen@example.com":               true,
		"ann@bücher.example":               true,
		"o'neill@example.com":              true,
		"":                                 false,
		"ann":                              false,
		"Ann <ann@example.com>":            false,
		"<ann@example.com>":                false,
		"ann@example.com, bob@example.com": false,
		"ann@example.com\r\nBcc: bob@example.com": false,
		"ann@example.com\n":                       false,
		"ann@exa\x00mple.com":                     false,
		" ann@example.com":                        false,
		"ann@example.com (Ann)":                   false,
		`"ann b"@example.com`:                     false,
		"ann\u202e@example.com":                   false,
		strings.Repeat("a", 250) + "@example.com": false,
	} {
		err := CheckAddress(address)
		if (err == nil) != want {
			t.Errorf("%q: err = %v, want taken %v", address, err, want)
		}
		if err != nil && len(address) > 2 && strings.Contains(err.Error(), address) {
			t.Errorf("%q is in its own error", address)
		}
	}
}

func TestInWords(t *testing.T) {
	for d, want := range map[time.Duration]string{
		0:                               "0 seconds",
		-time.Second:                    "0 seconds",
		time.Second:                     "1 second",
		90 * time.Second:                "90 seconds",
		time.Minute:                     "1 minute",
		10 * time.Minute:                "10 minutes",
		59*time.Minute + 59*time.Second: "59 minutes",
		time.Hour:                       "1 hour",
		90 * time.Minute:                "90 minutes",
		24 * time.Hour:                  "1 day",
		36 * time.Hour:                  "36 hours",
		72 * time.Hour:                  "3 days",
	} {
		if got := inWords(d); got != want {
			t.Errorf("%s: %q, want %q", d, got, want)
		}
	}
}

// parsed reads a composed message as a mail program would.
func parsed(t testing.TB, data []byte) *mail.Message {
	t.Helper()
	message, err := mail.ReadMessage(strings.NewReader(string(data)))
	if err != nil {
		t.Fatal(err)
	}
	return message
}

func TestCompose(t *testing.T) {
	from := &mail.Address{Name: "Çalý", Address: "no-reply@caly.example"}
	envelope := Envelope{ID: EventID("acme/support", "verify:1"), Date: when}
	data, err := compose(from, "ann@example.com", examples["verify_email"], envelope)
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "verify_email.eml", string(data))
	again, err := compose(from, "ann@example.com", examples["verify_email"], envelope)
	if err != nil || string(again) != string(data) {
		t.Errorf("the same message of the same event differs when it is written again (%v)", err)
	}
	if other := EventID("acme/support", "verify:2"); other == envelope.ID {
		t.Error("two events share an id")
	}
}

// FuzzHeaders verifies that a message has exactly the intended headers, for any service, device and recipient.
func FuzzHeaders(f *testing.F) {
	f.Add("Acme", "Firefox", "ann@example.com")
	f.Add("Acme\r\nBcc: eve@example.com", "x\r\n\r\n<script>", "ann@example.com")
	f.Add("Žluťoučký kůň "+strings.Repeat("ж", 200), "\xff\xfe", "jürgen@bücher.example")
	f.Add("=?utf-8?q?=0D=0ABcc:_eve?=", "\u2028\u0085", "a@b")
	f.Add("{{.Code}}", "https://evil.example", "o'neill@example.com")
	f.Fuzz(func(t *testing.T, service, device, to string) {
		ascii, _, err := mailbox(to)
		message := Message{PasswordChanged, to, Data{Service: service, At: when, Device: device}}
		if message.check() != nil || err != nil {
			return
		}
		data, err := compose(&mail.Address{Address: "no-reply@caly.example"}, ascii, message, Envelope{
			ID:   "id",
			Date: when,
		})
		if err != nil {
			t.Fatal(err)
		}
		p := parsed(t, data)
		want := map[string]bool{
			"Date":                     true,
			"Mime-Version":             true,
			"Message-Id":               true,
			"Subject":                  true,
			"From":                     true,
			"To":                       true,
			"Content-Type":             true,
			"Auto-Submitted":           true,
			"X-Auto-Response-Suppress": true,
		}
		for name, values := range p.Header {
			if !want[name] || len(values) != 1 {
				t.Fatalf("header %s: %q", name, values)
			}
		}
		if list, err := p.Header.AddressList("To"); err != nil || len(list) != 1 || list[0].Address != ascii {
			t.Fatalf("To: %v, %v; want %s alone", list, err, ascii)
		}
		subject, err := new(mime.WordDecoder).DecodeHeader(p.Header.Get("Subject"))
		if err != nil || strings.ContainsAny(subject, "\r\n") || !strings.HasPrefix(subject, "Your password for ") {
			t.Fatalf("subject %q, %v", subject, err)
		}
		rendered, err := message.render()
		if err != nil || strings.Contains(rendered.HTML, "<script") ||
			strings.Contains(rendered.Text, "https://evil") ||
			rendered.Subject != subject {
			t.Fatalf("%+v, %v; subject as read %q", rendered, err, subject)
		}
	})
}
