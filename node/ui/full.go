package ui

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	tea "charm.land/bubbletea/v2"
	"github.com/charmbracelet/colorprofile"

	"lanchat/node/chat"
	"lanchat/node/ui/screen"
	"lanchat/node/ui/theme"
	"lanchat/node/ui/view"
)

// drawEvery is how long events are gathered before they are drawn together:
// a flood costs a few pictures a second, and the first event waits for none.
const drawEvery = 40 * time.Millisecond

// A FullConfig says where the full screen is.
type FullConfig struct {
	In, Out  *os.File // terminals
	Commands []string // for completion: how each is written, as in chat.Usages
	First    bool     // the first start of all: begin with five lines of help
	Meter    Meter    // judges the new password of /passwd
	// Open starts the platform's opener with a link; it returns at once.
	Open func(link string) error
	// Notify shows a notification through the desktop's service, and returns when
	// it has; nil: there is none.
	Notify func(title, text string) error
}

// Full is the face that takes the whole terminal. Package screen says what it
// shows; this runs it on Bubble Tea. Nothing else may write to the terminal
// while it runs: logs go to a file or nowhere.
type Full struct {
	cfg     FullConfig
	feed    *feed
	alerts  alerts
	early   *Line       // says what goes wrong before Run
	begun   atomic.Bool // Run was called
	program *tea.Program

	mu      sync.Mutex
	running bool
	ready   chan struct{} // closed when the program takes messages
}

var _ Face = (*Full)(nil)

// NewFull returns a full screen. The terminal is changed by Run, not before:
// ask questions first. Close ends the goroutine it starts.
func NewFull(cfg FullConfig) *Full {
	f := &Full{cfg: cfg, ready: make(chan struct{})}
	f.alerts = alerts{notify: cfg.Notify, show: f.Show}
	f.feed = newFeed(linesLimit, true, f.write)
	f.early = NewLine(LineConfig{Out: cfg.Out})
	return f
}

// Show implements [Face]. What goes wrong before there is a screen stands on the
// terminal as a line.
func (f *Full) Show(e chat.Event) {
	switch e.(type) {
	case chat.Authd, chat.Error:
		if !f.begun.Load() {
			f.early.Show(e)
			return
		}
	}
	f.feed.show(e)
}

// shown is a batch of events for the program.
type shown struct {
	items   []screen.Item
	dropped int
}

// write hands a batch to the program, and gathers the next for a while.
func (f *Full) write(batch []item, dropped int) error {
	select {
	case <-f.ready:
	case <-f.feed.down:
		return nil
	}
	items := make([]screen.Item, len(batch))
	for i, it := range batch {
		items[i] = screen.Item{At: it.at, Event: it.e}
	}
	f.program.Send(shown{items, dropped})
	if len(batch) < feedBatch {
		<-time.After(drawEvery)
	}
	return nil
}

// Run implements [Face].
func (f *Full) Run(ctx context.Context, do func(chat.Command)) error {
	f.begun.Store(true)
	f.early.Close()
	in, endReads, err := newKeyboard(f.cfg.In)
	if err != nil {
		return fmt.Errorf("reading the terminal: %w", err)
	}
	options := []tea.ProgramOption{tea.WithContext(ctx), tea.WithInput(in), tea.WithOutput(f.cfg.Out), tea.WithoutSignalHandler()}
	if theme.On() { // the person has decided: Bubble Tea need not heed NO_COLOR again
		options = append(options, tea.WithEnvironment(slices.DeleteFunc(os.Environ(), func(kv string) bool { return strings.HasPrefix(kv, "NO_COLOR=") })))
	} else {
		options = append(options, tea.WithColorProfile(colorprofile.ASCII))
	}
	commands := make(chan chat.Command, 1024)
	var doing sync.WaitGroup
	doing.Go(func() {
		for c := range commands {
			do(c)
		}
	})
	m := &fullModel{full: f, commands: commands,
		screen: screen.New(screen.Config{Commands: f.cfg.Commands, Location: time.Local, First: f.cfg.First, Notifier: view.NotifierOf(os.Getenv), Hyperlinks: theme.On() && view.Hyperlinks(os.Getenv), Meter: f.cfg.Meter})}
	f.program = tea.NewProgram(m, options...)
	f.mu.Lock()
	f.running = true
	f.mu.Unlock()
	close(f.ready)
	_, err = f.program.Run()
	endReads()
	f.mu.Lock()
	f.running = false
	f.mu.Unlock()
	f.feed.fail(nil)
	close(commands)
	doing.Wait()
	switch {
	case m.quit:
		return ErrQuit
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case err != nil && !errors.Is(err, io.EOF):
		return fmt.Errorf("running the terminal: %w", err)
	}
	return io.EOF
}

// Close implements [Face].
func (f *Full) Close() error {
	f.mu.Lock()
	running := f.running
	f.mu.Unlock()
	if running {
		f.program.Quit()
		f.program.Wait()
	}
	f.early.Close()
	f.feed.fail(nil)
	f.feed.close()
	return nil
}

// A fullModel is Bubble Tea's side of a screen. Only touched by its loop.
type fullModel struct {
	full     *Full
	screen   *screen.Screen
	commands chan<- chat.Command
	quit     bool
	timer    time.Time // when the last tick asked for comes
}

type tick time.Time

func (m *fullModel) Init() tea.Cmd {
	return tea.Batch(tea.RequestBackgroundColor, m.work(time.Now()))
}

func (m *fullModel) Update(msg tea.Msg) (tea.Model, tea.Cmd) {
	now := time.Now()
	switch msg := msg.(type) {
	case shown:
		m.screen.Show(now, msg.items, msg.dropped)
	case tea.KeyPressMsg:
		m.screen.Key(now, tea.Key(msg).Keystroke(), msg.Text)
	case tea.PasteMsg:
		m.screen.Paste(msg.Content)
	case tea.WindowSizeMsg:
		m.screen.Resize(msg.Width, msg.Height)
	case tea.FocusMsg:
		m.screen.Focus(now, true)
	case tea.BlurMsg:
		m.screen.Focus(now, false)
	case tea.BackgroundColorMsg:
		m.screen.Dark(msg.IsDark())
	case tea.MouseClickMsg:
		if msg.Button == tea.MouseLeft {
			m.screen.Click(now, msg.X, msg.Y)
		}
	case tea.MouseWheelMsg:
		if msg.Button == tea.MouseWheelUp || msg.Button == tea.MouseWheelDown {
			m.screen.Wheel(now, msg.Button == tea.MouseWheelUp)
		}
	case tick:
		m.timer = time.Time{}
		m.screen.Advance(now)
	}
	return m, m.work(now)
}

// work does what the screen wants done.
func (m *fullModel) work(now time.Time) tea.Cmd {
	w := m.screen.Take()
	var cmds []tea.Cmd
	for _, c := range w.Commands {
		select {
		case m.commands <- c:
		default: // the core stands still, for a full disk perhaps, which it has said
		}
	}
	if w.Raw != "" {
		cmds = append(cmds, tea.Raw(w.Raw))
	}
	if w.Redraw {
		cmds = append(cmds, tea.ClearScreen)
	}
	for _, a := range w.Alerts {
		m.full.alerts.send(a)
	}
	if w.Open != "" && m.full.cfg.Open != nil {
		if err := m.full.cfg.Open(w.Open); err != nil {
			m.full.Show(chat.Error{Code: "failed", Text: fmt.Sprintf("opening the link: %v", err)})
		}
	}
	if w.Quit {
		m.quit = true
		cmds = append(cmds, tea.Quit)
	}
	if d := m.screen.Deadline(); !d.IsZero() && (m.timer.IsZero() || d.Before(m.timer)) {
		m.timer = d
		cmds = append(cmds, tea.Tick(max(d.Sub(now), time.Millisecond), func(t time.Time) tea.Msg { return tick(t) }))
	}
	return tea.Batch(cmds...)
}

func (m *fullModel) View() tea.View {
	p := m.screen.View()
	v := tea.NewView(p.Content)
	v.AltScreen = true
	v.ReportFocus = true
	v.WindowTitle = p.Title
	v.Cursor = tea.NewCursor(p.X, p.Y)
	if p.Mouse {
		v.MouseMode = tea.MouseModeCellMotion
	}
	return v
}
