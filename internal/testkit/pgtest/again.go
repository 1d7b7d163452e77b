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

// without has the names of the tests that called SameOnEachServer.
var without sync.Map

// SameOnEachServer skips a test that hack/test.sh runs again on other programs of PostgreSQL: it uses no server, or
// chooses its servers itself, and so would do the same again. From then on the test cannot use the shared server, which
// would depend on these programs.
func SameOnEachServer(t testing.TB) {
	t.Helper()
	if os.Getenv(againVariable) != "" {
		t.Skip("this test does not use the server that was chosen for this run")
	}
	without.Store(t.Name(), true)
}

// checkAllowed fails a test that called SameOnEachServer, or a test within such a test.
func checkAllowed(t testing.TB) {
	t.Helper()
	for name := t.Name(); ; {
		if _, found := without.Load(name); found {
			t.Fatalf("%s calls pgtest.SameOnEachServer and uses the shared server", name)
		}
		end := strings.LastIndexByte(name, '/')
		if end < 0 {
			return
		}
		name = name[:end]
	}
}
