package secret_test

import (
	"strings"
	"testing"

	"github.com/caly-dev/caly/internal/secret"
)

func TestFault(t *testing.T) {
	for name, tc := range map[string]struct{ value, want string }{
		"as it should be":       {"AKIAIOSFODNN7EXAMPLE", ""},
		"base64":                {"wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY==", ""},
		"empty":                 {"", ""},
		"one quote":             {`"`, ""},
		"quotes within":         {`a"b"c`, ""},
		"a quote at the end":    {`abc"`, ""},
		"two kinds of quotes":   {`"abc'`, ""},
		"blanks within":         {"correct horse battery", ""},
		"another alphabet":      {"пароль", ""},
		"an emoji of several":   {"\U0001f468\u200d\U0001f469\u200d\U0001f467 family", ""},
		"line feed":             {"key\n", "ends in a line break"},
		"carriage return":       {"key\r", "ends in a line break"},
		"both":                  {"key\r\n", "ends in a line break"},
		"binary, line feed":     {"\xff\n", "ends in a line break"},
		"line feed first":       {"\nkey", "control character"},
		"two lines":             {"key\nnext", "control character"},
		"tab at the end":        {"key\t", "control character"},
		"NUL":                   {"key\x00", "NUL"},
		"NUL within":            {"k\x00ey", "NUL"},
		"escape":                {"\x1b[0mkey", "control character"},
		"C1 control character":  {"key\u0085next", "control character"},
		"blank first":           {" key", "begins or ends with a blank"},
		"blank last":            {"key ", "begins or ends with a blank"},
		"no-break space":        {"key\u00a0", "begins or ends with a blank"},
		"byte order mark":       {"\ufeffkey", "begins or ends with a blank"},
		"zero-width space":      {"key\u200b", "begins or ends with a blank"},
		"UTF-16":                {"k\x00e\x00y\x00", "NUL"},
		"not UTF-8":             {"key\xe9", "UTF-8"},
		"double quotes":         {`"key"`, "in quotes"},
		"single quotes":         {`'key'`, "in quotes"},
		"quotes around nothing": {`""`, "in quotes"},
		"backticks":             {"`key`", "in quotes"},
	} {
		t.Run(name, func(t *testing.T) {
			got := secret.Fault(tc.value)
			if (got == "") != (tc.want == "") || !strings.Contains(got, tc.want) {
				t.Errorf("got %q, want %q", got, tc.want)
			}
		})
	}
}

func FuzzFault(f *testing.F) {
	f.Add("key\n")
	f.Fuzz(func(t *testing.T, value string) {
		fault := secret.Fault(value)
		if fault == "" && strings.TrimSpace(value) != value {
			t.Errorf("%q passes", value)
		}
		if len(value) > 8 && strings.Contains(fault, value) {
			t.Error("the fault quotes the value")
		}
	})
}
