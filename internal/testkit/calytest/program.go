package calytest

import (
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/caly-dev/caly/internal/testkit/kubetest"
)

// asProgram in the environment makes the test binary of the program's own package the program.
const asProgram = "CALY_TEST_AS_PROGRAM"

// itself is true in the test binary of the program's own package.
var itself bool

// Main is the TestMain of the program's own package: its test binary is the program, and nothing is built.
func Main(m *testing.M, program func()) {
	itself = true
	if os.Getenv(asProgram) != "" {
		program()
		return
	}
	kubetest.Main(m)
}

// program is what Start runs. It is built once in a test binary, with the race detector if the test binary has it.
func program(t testing.TB) string {
	t.Helper()
	if itself {
		file, err := os.Executable()
		if err != nil {
			t.Fatal(err)
		}
		return file
	}
	return built(t, raceDetector)
}

// BuildWithoutRace is the program without the race detector, which takes memory of its own.
func BuildWithoutRace(t testing.TB) string {
	t.Helper()
	return built(t, false)
}

var buildOnce = map[bool]func() (string, error){
	false: sync.OnceValues(func() (string, error) { return build(false) }),
	true:  sync.OnceValues(func() (string, error) { return build(true) }),
}

func built(t testing.TB, race bool) string {
	t.Helper()
	file, err := buildOnce[race]()
	if err != nil {
		t.Fatal(err)
	}
	return file
}

// build compiles the program to dist. Test binaries that run at the same time share the file: they build one after the
// other, and go build leaves a file that is up to date as it is.
func build(race bool) (string, error) {
	dir := filepath.Join(kubetest.Root(), "dist", "test")
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return "", err
	}
	if err := readSources(kubetest.Root()); err != nil {
		return "", err
	}
	unlock, err := lock(filepath.Join(dir, "lock"))
	if err != nil {
		return "", err
	}
	defer unlock()
	file := filepath.Join(dir, "caly")
	flags := []string{"build"}
	cgo := "0"
	if race {
		file += "-race"
		flags = append(flags, "-race")
		cgo = "1" // the race detector needs cgo
	}
	cmd := exec.Command("go", append(flags, "-o", file, "./cmd/caly")...)
	cmd.Dir = kubetest.Root()
	cmd.Env = append(os.Environ(), "CGO_ENABLED="+cgo)
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("go build: %w\n%s", err, out)
	}
	return file, nil
}

// lock holds a file for this process.
func lock(name string) (unlock func(), err error) {
	file, err := os.OpenFile(name, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX); err != nil {
		_ = file.Close()
		return nil, fmt.Errorf("lock %s: %w", name, err)
	}
	return func() { _ = file.Close() }, nil
}

// sourceFolders are those that the program is made of.
var sourceFolders = []string{"api", "cmd", "controllers", "dataplane", "internal", "migrations"}

// readSources looks at each source file of the program. The go command notes the files that a test looks at, and runs
// the test again after a change. Without this it would show the result of an older program.
func readSources(root string) error {
	for _, folder := range sourceFolders {
		err := filepath.WalkDir(filepath.Join(root, folder), func(path string, entry fs.DirEntry, err error) error {
			if err != nil || entry.IsDir() || strings.HasSuffix(path, "_test.go") {
				return err
			}
			_, err = os.Stat(path)
			return err
		})
		if err != nil {
			return err
		}
	}
	_, err := os.Stat(filepath.Join(root, "go.sum"))
	return err
}
