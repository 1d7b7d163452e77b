package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// newProgram copies a small module, adds a list of mutations and makes the folder the working directory.
func newProgram(t *testing.T, list string) {
	t.Helper()
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS("testdata/program")); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(dir, "list", "area.yaml"), list)
	write(t, filepath.Join(dir, ".gitignore"), "/ignored\n")
	write(t, filepath.Join(dir, "ignored"), "")
	if out, err := exec.Command("git", "init", "-q", dir).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	t.Chdir(dir)
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o750); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func read(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func TestMutate(t *testing.T) {
	const (
		noticed   = "- {name: subtracts, file: sum/sum.go, old: a + b, new: a - b}\n"
		unnoticed = "- {name: one, file: sum/sum.go, old: return 0, new: return 1}\n"
		loops     = "- {name: loops, file: sum/sum.go, old: a + b, new: 'func() int { for {} }()'}\n"
		nonsense  = "- {name: nonsense, file: sum/sum.go, old: a + b, new: a + c}\n"
		missing   = "- {name: missing, file: sum/sum.go, old: a * b}\n"
		twice     = "- {name: twice, file: sum/sum.go, old: int}\n"
		moved     = "- {name: moved, file: sum/gone.go, old: a}\n"
		fails     = "- {name: two, file: bad/bad.go, old: return 1, new: return 2}\n"
		other     = "- {name: other, file: sum/sum.go, old: a + b, new: a - b, run: Other}\n"
		nothing   = "- {name: nothing, file: sum/sum.go, old: a + b, new: a - b, run: Nothing}\n"
	)
	for name, tc := range map[string]struct {
		list       string
		args       []string
		wantStatus int
		want       string // in the output
	}{
		"caught":              {noticed, nil, 0, "area: subtracts (TestSum)\n1 caught, 0 hung, 0 survived, 0 broken\n"},
		"survives":            {noticed + unnoticed, nil, 1, "SURVIVED: area: one (sum/sum.go, tests of sum)"},
		"other tests":         {other, nil, 1, "SURVIVED: area: other"},
		"hangs":               {loops, []string{"--bound", "1s"}, 0, "0 caught, 1 hung,"},
		"by name":             {noticed + unnoticed, []string{"--only", "subtracts"}, 0, "1 caught, 0 hung, 0 surv"},
		"by area":             {noticed + unnoticed, []string{"--area", "other,area"}, 1, "1 caught, 0 hung, 1 surv"},
		"another area":        {noticed, []string{"--area", "other"}, 2, "no mutation matches"},
		"does not build":      {nonsense, nil, 2, "BROKEN: area: nonsense"},
		"text is missing":     {noticed + missing, []string{"--only", "subtracts"}, 2, "has the text 0 times"},
		"text is there twice": {twice, nil, 2, "has the text 3 times"},
		"file is missing":     {moved, nil, 2, "no such file"},
		"tests fail anyway":   {fails, nil, 2, "the tests fail without a mutation"},
		"no test matches":     {nothing, nil, 2, `no test of sum matches "Nothing"`},
		"only checked":        {noticed + unnoticed, []string{"--check"}, 0, "2 mutations can be applied\n"},
		"unknown argument":    {noticed, []string{"area"}, 2, `unexpected argument "area"`},
	} {
		t.Run(name, func(t *testing.T) {
			newProgram(t, tc.list)
			before := read(t, "sum/sum.go")
			var out bytes.Buffer
			status := run(t.Context(), append([]string{"--list", "list"}, tc.args...), &out, &out)
			if status != tc.wantStatus || !strings.Contains(out.String(), tc.want) {
				t.Errorf("status %d, want %d and %q in the output:\n%s", status, tc.wantStatus, tc.want, &out)
			}
			if d := cmp.Diff(before, read(t, "sum/sum.go")); d != "" {
				t.Errorf("the tree itself was changed (-before +after):\n%s", d)
			}
		})
	}
}

func TestLoadRefuses(t *testing.T) {
	for name, tc := range map[string]struct {
		list, wantErr string
	}{
		"unknown field":   {"- {name: a, file: f, old: o, nwe: n}\n", "unknown field"},
		"no text":         {"- {name: a, file: f}\n", "are required"},
		"nothing changes": {"- {name: a, file: f, old: o, new: o}\n", "the same"},
		"outside":         {"- {name: a, file: ../f, old: o}\n", "below the root"},
		"bad pattern":     {"- {name: a, file: f, old: o, run: '('}\n", "error parsing regexp"},
		"one name twice":  {"- {name: a, file: f, old: o}\n- {name: a, file: f, old: p}\n", "is there twice"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			write(t, filepath.Join(dir, "area.yaml"), tc.list)
			if _, err := load(dir); err == nil || !strings.Contains(err.Error(), tc.wantErr) {
				t.Errorf("%v, want %q", err, tc.wantErr)
			}
		})
	}
	if _, err := load(t.TempDir()); err == nil {
		t.Error("a folder without lists is loaded")
	}
}

func TestTree(t *testing.T) {
	newProgram(t, "")
	if err := os.Symlink("sum", "link"); err != nil {
		t.Fatal(err)
	}
	copied := tree{t.TempDir()}
	if err := copied.copyFrom(t.Context(), "."); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"go.mod", "sum/sum.go", ".gitignore"} {
		if d := cmp.Diff(read(t, name), read(t, filepath.Join(copied.dir, name))); d != "" {
			t.Errorf("%s (-want +got):\n%s", name, d)
		}
	}
	if _, err := os.Stat(filepath.Join(copied.dir, "ignored")); err == nil {
		t.Error("a file that git ignores is copied")
	}
	if target, err := os.Readlink(filepath.Join(copied.dir, "link")); target != "sum" || err != nil {
		t.Errorf("the link leads to %q, %v", target, err)
	}
}
