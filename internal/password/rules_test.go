package password

import (
	"strings"
	"testing"
	"unicode/utf8"
)

func TestCheck(t *testing.T) {
	for name, tc := range map[string]struct {
		password string
		want     string // part of the reason; empty: it is taken
	}{
		"four words":                    {"correct horse battery staple", ""},
		"random letters":                {"xkqvjzmwpyrhtbg", ""},
		"random, short":                 {"xkqvjzmwpyrhtb", "at least 15"},
		"random, all classes":           {"g7#Rm!q2Vz&8Lw@", ""},
		"a sentence":                    {"my bicycle dreams of purple mountains", ""},
		"spaces only at its ends":       {"  unripe quince jam  ", ""},
		"one letter":                    {strings.Repeat("a", 15), "too easy"},
		"one letter, long":              {strings.Repeat("a", 256), "too easy"},
		"a word twice":                  {"passwordpassword", "too easy"},
		"a word in disguise, twice":     {"P@ssw0rdP@ssw0rd", "too easy"},
		"a word backwards, twice":       {"drowssapdrowssap", "too easy"},
		"words of every list":           {"iloveyoupassword", "too easy"},
		"a row of keys":                 {"qwertyuiopasdfgh", "too easy"},
		"columns of keys":               {"1qaz2wsx3edc4rfv", "too easy"},
		"counting":                      {"123456789012345", "too easy"},
		"counting down":                 {"zyxwvutsrqponmlk", "too easy"},
		"counting in twos":              {"acegikmoqsuwyac", "too easy"},
		"password and counting":         {"password1234567", "too easy"},
		"four characters, four times":   {"x9$kx9$kx9$kx9$k", "too easy"},
		"the email":                     {"jane.doe@acme.example", "too easy"},
		"the email's parts":             {"jane-doe-jane-doe-1", "too easy"},
		"the tenant":                    {"acme/support-2024", "too easy"},
		"the platform":                  {"calycalycalycaly", "too easy"},
		"the platform and the provider": {"Caly-Exotel-Caly!", "too easy"},
		"14 characters of 28 bytes":     {"ёжикпотерялсяв", "at least 15"},
		"15 characters of 30 bytes":     {"жёлтыйпаровозик", ""},
		"15 code points, 14 composed":   {"xkqvjzmwpyrhte\u0301", "at least 15"},
		"256 characters":                {strings.Repeat("xkqvjzmwpyrhtbgl", 16), ""},
		"257 characters":                {strings.Repeat("xkqvjzmwpyrhtbgl", 16) + "x", "at most 256"},
		"256 characters of 4 bytes":     {pictures(256), ""},
		"endless":                       {strings.Repeat("x", 1<<20), "at most 256"},
		"no UTF-8":                      {"xkqvjzmwpyrhtbg\xff", "UTF-8"},
		"empty":                         {"", "at least 15"},
	} {
		t.Run(name, func(t *testing.T) {
			got := Check(tc.password, "jane.doe@acme.example", "acme/support")
			if (tc.want == "") != (got == "") || !strings.Contains(got, tc.want) {
				t.Errorf("%q, want %q", got, tc.want)
			}
			if tc.password != "" && strings.Contains(got, tc.password) {
				t.Error("the reason quotes the password")
			}
		})
	}
}

// pictures are n characters of four bytes that neither count nor repeat.
func pictures(n int) string {
	var b strings.Builder
	for i := range n {
		b.WriteRune(rune(0x1f300 + i*101%257))
	}
	return b.String()
}

// TestContextIsTheAccounts verifies that a password that contains the account's own email is rejected, and accepted for
// another account.
func TestContextIsTheAccounts(t *testing.T) {
	const pw = "zyrplowitz-kvanthe"
	if why := Check(pw, "jane@acme.example", "acme/support"); why != "" {
		t.Errorf("refused: %s", why)
	}
	if why := Check(pw, "zyrplowitz.kvanthe@acme.example", "acme/support"); why == "" {
		t.Error("the email's local part was taken")
	}
}

func TestCommonWords(t *testing.T) {
	if n := len(ranks()); n < 10_000 {
		t.Fatalf("the list has %d words", n)
	}
	for word := range ranks() {
		if len(word) < minRun || len(word) > maxWord || word != strings.ToLower(word) {
			t.Errorf("%q is never found", word)
		}
	}
}

// FuzzCheck verifies that Check answers for any text, and that each accepted password is long enough.
func FuzzCheck(f *testing.F) {
	for _, s := range []string{"correct horse battery staple", "P@ssw0rdP@ssw0rd", "İİİİİİİİİİİİİİİ",
		strings.Repeat("e\u0301", 8),
		"ǅẞſKÅ1qaz\u200d\u202e\x00abc"} {
		f.Add(s, "jane@acme.example")
	}
	f.Fuzz(func(t *testing.T, pw, email string) {
		why := Check(pw, email, "acme/support")
		n := utf8.RuneCountInString(normalize(pw))
		if why == "" && (n < MinLength || n > MaxLength || !utf8.ValidString(pw)) {
			t.Fatalf("%q was taken", pw)
		}
		if why == "" && Check(normalize(pw), email, "acme/support") != "" {
			t.Fatalf("%q is taken, and its normal form is not", pw)
		}
	})
}
