package tenantapi_test

import (
	"testing"

	"github.com/caly-dev/caly/dataplane/api/apitest"
)

func TestDocument(t *testing.T) {
	if faults := apitest.Faults(newRig(t).Document()); len(faults) > 0 {
		t.Errorf("the document: %q", faults)
	}
}
