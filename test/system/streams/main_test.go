// Package streams tests audio streams through data planes that are processes: many calls, a killed pod, churn, the end of a pod.
package streams

import (
	"testing"

	"github.com/caly-dev/caly/internal/testkit/kubetest"
)

func TestMain(m *testing.M) { kubetest.Main(m) }
