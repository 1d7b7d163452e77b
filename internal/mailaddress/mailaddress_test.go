package mailaddress

import (
	"strings"
	"testing"

	"github.com/caly-dev/caly/internal/mail"
)

func TestNormalize(t *testing.T) {
	for name, tc := range map[string]struct{ in, want string }{
		"as it is":             {"jane@acme.example", "jane@acme.example"},
		"capitals and spaces":  {"\t Jane.Doe@ACME.Example \n", "jane.doe@acme.example"},
		"tag and signs":        {"o'neil+x=y@a-b.example", "o'neil+x=y@a-b.example"},
		"IDN in its xn-- form": {"jane@xn--bcher-kva.example", "jane@xn--bcher-kva.example"},
		"longest local part":   {strings.Repeat("a", 64) + "@a.example", strings.Repeat("a", 64) + "@a.example"},
		"local part too long":  {strings.Repeat("a", 65) + "@a.example", ""},
		"too long":             {"a@" + strings.Repeat("a.", 130) + "example", ""},
		"label too long":       {"a@" + strings.Repeat("a", 64) + ".example", ""},
		"empty":                {"", ""},
		"no at":                {"jane.acme.example", ""},
		"two ats":              {"jane@acme@acme.example", ""},
		"no local part":        {"@acme.example", ""},
		"no domain":            {"jane@", ""},
		"one label":            {"jane@localhost", ""},
		"address":              {"jane@192.0.2.1.", ""},
		"address in brackets":  {"jane@[192.0.2.1]", ""},
		"dot at its end":       {"jane.@acme.example", ""},
		"dot first":            {".jane@acme.example", ""},
		"two dots":             {"jane..doe@acme.example", ""},
		"domain's dot":         {"jane@acme.example.", ""},
		"domain's dash":        {"jane@-acme.example", ""},
		"with a name":          {"Jane <jane@acme.example>", ""},
		"quoted":               {`"jane doe"@acme.example`, ""},
		"comment":              {"jane(x)@acme.example", ""},
		"two of them":          {"jane@acme.example,joe@acme.example", ""},
		"line break, header":   {"jane@acme.example\r\nBcc: joe@acme.example", ""},
		"NUL":                  {"jane\x00@acme.example", ""},
		"beyond ASCII":         {"jané@acme.example", ""},
		"domain beyond ASCII":  {"jane@bücher.example", ""},
		"Kelvin sign, not a k": {"mi\u212ae@acme.example", ""},
		"right-to-left":        {"jane\u202e@acme.example", ""},
		"no-break space":       {"jane@acme.example\u00a0", "jane@acme.example"},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := Normalize(tc.in)
			if got != tc.want || (err == nil) != (tc.want != "") {
				t.Errorf("%q, %v; want %q", got, err, tc.want)
			}
			if err != nil && tc.in != "" && strings.Contains(err.Error(), tc.in) {
				t.Error("the error quotes it")
			}
		})
	}
}

// FuzzNormalize verifies that an accepted address is its own normal form and a valid recipient of mail.
func FuzzNormalize(f *testing.F) {
	for _, s := range []string{
		"jane@acme.example", " JANE@ACME.EXAMPLE ", "a@b", "\"x\"@y.z", "a@b.c\r\nBcc: d@e.f",
		"mi\u212ae@acme.example",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		email, err := Normalize(s)
		if err != nil {
			return
		}
		if again, err := Normalize(email); err != nil || again != email {
			t.Fatalf("%q becomes %q, and that %q (%v)", s, email, again, err)
		}
		if err := mail.CheckAddress(email); err != nil {
			t.Fatalf("%q: %v", email, err)
		}
	})
}
