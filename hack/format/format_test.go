package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestFormat(t *testing.T) {
	const long = `"a value that is long enough to bring the line of this literal over one hundred and twenty columns"`
	wide := `"1234567 ` + long[1:]
	for name, tc := range map[string]struct{ source, want string }{
		"one line": {
			source: "var x = T{A: 1, B: 2}\n",
			want:   "var x = T{A: 1, B: 2}\n",
		},
		"several keys on a line": {
			source: "var x = T{A: 1, B: 2,\n\tC: 3}\n",
			want:   "var x = T{\n\tA: 1,\n\tB: 2,\n\tC: 3,\n}\n",
		},
		"trailing comma": {
			source: "var x = T{\n\tA: 1, B: 2,\n}\n",
			want:   "var x = T{\n\tA: 1,\n\tB: 2,\n}\n",
		},
		"blank before the comma": {
			source: "var x = T{\n\tA: 1, B: 2 ,}\n",
			want:   "var x = T{\n\tA: 1,\n\tB: 2,\n}\n",
		},
		"comment before the comma": {
			source: "var x = T{\n\tA: 1, B: 2 /* two */, }\n",
			want:   "var x = T{\n\tA: 1,\n\tB: 2, /* two */\n}\n",
		},
		"comment without a comma": {
			source: "var x = T{\n\tA: 1, B: 2 /* two */}\n",
			want:   "var x = T{\n\tA: 1,\n\tB: 2,\n\t/* two */}\n",
		},
		"comments stay with their keys": {
			source: "var x = T{A: 1, // a\n\t// b\n\tB: 2}\n",
			want:   "var x = T{\n\tA: 1, // a\n\t// b\n\tB: 2,\n}\n",
		},
		"long line": {
			source: "var x = T{Name: " + long + ", B: 2}\n",
			want:   "var x = T{\n\tName: " + long + ",\n\tB:    2,\n}\n",
		},
		"nested": {
			source: "var x = []T{{A: 1, B: U{C: 1,\n\tD: 2}}}\n",
			want:   "var x = []T{{\n\tA: 1,\n\tB: U{\n\t\tC: 1,\n\t\tD: 2,\n\t},\n}}\n",
		},
		"without keys": {
			source: "var x = []T{{1, 2}, {3,\n\t4}}\n",
			want:   "var x = []T{{1, 2}, {3,\n\t4}}\n",
		},
		"keys of a log line": {
			source: "var x = log.WarnContext(\n\tctx,\n\t\"a message\",\n" +
				"\t\"error\",\n\terr,\n\t\"after\",\n\ttime.Second,\n)\n",
			want: "var x = log.WarnContext(ctx, \"a message\",\n\t\"error\", err,\n\t\"after\", time.Second,\n)\n",
		},
		"keys of logr": {
			source: "var x = log.Error(err, \"message\", \"pod\",\n\tname, \"after\", 2)\n",
			want:   "var x = log.Error(err, \"message\",\n\t\"pod\", name,\n\t\"after\", 2,\n)\n",
		},
		"log line with its pairs on lines": {
			source: "var x = log.Warn(\"a message\", \"a\", 1, \"b\", 2,\n\t\"c\", 3)\n",
			want:   "var x = log.Warn(\"a message\", \"a\", 1, \"b\", 2,\n\t\"c\", 3)\n",
		},
		"log line with a comment": {
			source: "var x = log.Warn(\"a message\",\n\t\"a\", // why\n\t1)\n",
			want:   "var x = log.Warn(\"a message\",\n\t\"a\", // why\n\t1)\n",
		},
		"log line without a value": {
			source: "var x = log.Warn(\"a message\",\n\tkey,\n\tvalue)\n",
			want:   "var x = log.Warn(\"a message\",\n\tkey,\n\tvalue)\n",
		},
		"pair too long for a line": {
			source: "var x = log.Warn(\n\t\"a message\",\n\t\"key\",\n" +
				"\t" + long + "+\n\t\t" + long + "+" + long + ",\n)\n",
			want: "var x = log.Warn(\n\t\"a message\",\n\t\"key\",\n" +
				"\t" + long + "+\n\t\t" + long + "+" + long + ",\n)\n",
		},
		"other calls": {
			source: "var x = strings.NewReplacer(\"a\",\n\t\"b\", \"c\", \"d\")\n",
			want:   "var x = strings.NewReplacer(\"a\",\n\t\"b\", \"c\", \"d\")\n",
		},
		"arguments that fit on the line of their call": {
			source: "var x = f(\n\ta,\n\tb,\n)\n",
			want:   "var x = f(a, b)\n",
		},
		"arguments that fit on one line": {
			source: "var x = f(\n\t" + wide + ",\n\tb,\n)\n",
			want:   "var x = f(\n\t" + wide + ", b,\n)\n",
		},
		"arguments that fit on no line": {
			source: "var x = f(\n\t" + wide + ",\n\t" + wide + ",\n)\n",
			want:   "var x = f(\n\t" + wide + ",\n\t" + wide + ",\n)\n",
		},
		"chain of calls": {
			source: "var x = f(\n\ta,\n).g(\n\t&b,\n)\n",
			want:   "var x = f(a).g(&b)\n",
		},
		"function as the last argument": {
			source: "var x = f(\n\ta,\n\tfunc() {\n\t\trun()\n\t},\n)\n",
			want:   "var x = f(a, func() {\n\trun()\n})\n",
		},
		"function before the last argument": {
			source: "var x = f(\n\tfunc() {\n\t\trun()\n\t},\n\ta,\n\tb,\n)\n",
			want:   "var x = f(\n\tfunc() {\n\t\trun()\n\t},\n\ta, b,\n)\n",
		},
		"raw string of several lines": {
			source: "var x = f(\n\t`a\n  b`,\n\tb,\n\tc,\n)\n",
			want:   "var x = f(`a\n  b`, b, c)\n",
		},
		"raw string that does not fit": {
			source: "var x = f(\n\ta,\n\tb,\n\t`" + wide + "\n  b`,\n\tc,\n\td,\n)\n",
			want:   "var x = f(\n\ta, b,\n\t`" + wide + "\n  b`,\n\tc, d,\n)\n",
		},
		"comment among arguments": {
			source: "var x = f(\n\ta, // why\n\tb,\n)\n",
			want:   "var x = f(\n\ta, // why\n\tb,\n)\n",
		},
		"arguments in rows": {
			source: "var x = f(\n\ta, b,\n\tc, d,\n)\n",
			want:   "var x = f(\n\ta, b,\n\tc, d,\n)\n",
		},
		"spread arguments": {
			source: "var x = f(\n\ta,\n\tb...,\n)\n",
			want:   "var x = f(\n\ta,\n\tb...,\n)\n",
		},
		"function as a value": {
			source: "var x = T{A: func() {\n\trun()\n}, B: 2}\n",
			want:   "var x = T{\n\tA: func() {\n\t\trun()\n\t},\n\tB: 2,\n}\n",
		},
	} {
		t.Run(name, func(t *testing.T) {
			const header = "package p\n\n"
			got, err := format([]byte(header + tc.source))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(header+tc.want, string(got)); diff != "" {
				t.Errorf("format() mismatch (-want +got):\n%s", diff)
			}
			again, err := format(got)
			if diff := cmp.Diff(string(got), string(again)); diff != "" || err != nil {
				t.Errorf("format() changes its own output (%v):\n%s", err, diff)
			}
		})
	}
}

func TestFormatRejectsWhatIsNoGo(t *testing.T) {
	if _, err := format([]byte("package")); err == nil {
		t.Error("no error")
	}
}

// TestFiles has one tracked file and new ones. The files that git ignores and those of programs are left out.
func TestFiles(t *testing.T) {
	t.Chdir(t.TempDir())
	for name, text := range map[string]string{
		"tracked.go":           "package p\n",
		"new.go":               "package p\n",
		"ignored.go":           "package p\n",
		"zz_generated.go":      "package p\n",
		"notes.txt":            "",
		".gitignore":           "ignored.go\n",
		"p/testdata/source.go": "package p\n",
	} {
		if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, args := range [][]string{{"init", "-q"}, {"add", "tracked.go"}} {
		if out, err := exec.Command("git", args...).CombinedOutput(); err != nil {
			t.Fatalf("git %v: %v: %s", args, err, out)
		}
	}
	got, err := files()
	slices.Sort(got)
	if diff := cmp.Diff([]string{"new.go", "tracked.go"}, got); diff != "" || err != nil {
		t.Errorf("files() mismatch (%v, -want +got):\n%s", err, diff)
	}
}
