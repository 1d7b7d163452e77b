package pgtest

import (
	"os"
	"strings"
	"sync"
	"testing"
)

// againVariable is the environment variable with which hack/test.sh runs the tests of a package again, on other
// programs of PostgreSQL.
const againVariable = "CALY_TEST_AGAIN"

// without has the names of the tests that called SameOnEachServer, and with those of tests that use the shared server.
var without, with sync.Map

// SameOnEachServer skips a test that hack/test.sh runs again on other programs of PostgreSQL: it uses no server, or
// chooses its servers itself, and so would do the same again. From then on the test cannot use the shared server, which
// would depend on these programs.
func SameOnEachServer(t testing.TB) {
	t.Helper()
	if os.Getenv(againVariable) != "" {
		t.Skip("this test does not use the server that was chosen for this run")
	}
	if name := within(t.Name(), &with); name != "" {
		t.Fatalf("%s uses the shared server and calls pgtest.SameOnEachServer", name)
	}
	without.Store(t.Name(), true)
}

// checkAllowed fails a test that called SameOnEachServer, or a test within such a test.
func checkAllowed(t testing.TB) {
	t.Helper()
	if name := within(t.Name(), &without); name != "" {
		t.Fatalf("%s calls pgtest.SameOnEachServer and uses the shared server", name)
	}
	with.Store(t.Name(), true)
}

// within returns the test of the set that a test is, or is within; empty without one.
func within(name string, set *sync.Map) string {
	for {
		if _, found := set.Load(name); found {
			return name
		}
		end := strings.LastIndexByte(name, '/')
		if end < 0 {
			return ""
		}
		name = name[:end]
	}
}
