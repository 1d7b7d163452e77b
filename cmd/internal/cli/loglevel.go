package cli

import (
	"context"
	"log/slog"
	"os"
	"os/signal"
	"syscall"
)

// level is that of every logger of the process.
var level = newLevel()

// newLevel returns the level that the environment names.
func newLevel() *slog.LevelVar {
	v := new(slog.LevelVar)
	v.Set(startLevel())
	return v
}

// startLevel returns the level that CALY_LOG_LEVEL names.
func startLevel() slog.Level {
	if os.Getenv("CALY_LOG_LEVEL") == "debug" {
		return slog.LevelDebug
	}
	return slog.LevelInfo
}

// NewLogger writes JSON to standard error.
func NewLogger() *slog.Logger {
	return slog.New(slog.NewJSONHandler(os.Stderr, &slog.HandlerOptions{Level: level}))
}

// Signals that change the level of a running process.
const (
	// signalDebug sets the level debug.
	signalDebug = syscall.SIGUSR1
	// signalReset sets the level that the process was started with.
	signalReset = syscall.SIGUSR2
)

// changeLevel changes the level at each of the signals, and logs it, until ctx is done. Without it the signals would
// end the process.
func changeLevel(ctx context.Context) {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, signalDebug, signalReset)
	go func() {
		defer signal.Stop(signals)
		for {
			select {
			case <-ctx.Done():
				return
			case s := <-signals:
				setLevel(s)
			}
		}
	}()
}

// setLevel sets the level that a signal stands for.
func setLevel(s os.Signal) {
	level.Set(startLevel())
	if s == signalDebug {
		level.Set(slog.LevelDebug)
	}
	NewLogger().Info("the log level was changed by a signal", "signal", s.String(), "newLevel", level.Level().String())
}
