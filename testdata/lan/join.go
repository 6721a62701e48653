//go:build linux

package main

/*
#define _GNU_SOURCE
#include <errno.h>
#include <limits.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

static pid_t child;

static void pass_on(int sig) { kill(child, sig); }

// Waits for child, stands for it before its shell, and exits with its status.
static void stand_for_child(void)
{
	static const int passed[] = {SIGTERM, SIGHUP, SIGUSR1, SIGUSR2};
	int status;

	for (int i = 0; i < 4; i++)
		signal(passed[i], pass_on);
	signal(SIGINT, SIG_IGN); // the terminal sends these to the child as well
	signal(SIGQUIT, SIG_IGN);
	while (waitpid(child, &status, 0) != child)
		if (errno != EINTR)
			exit(1);
	exit(WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status));
}

// Runs before the Go runtime: only a process of one thread may enter a user
// namespace, and a PID namespace holds for the children only, one of which goes on to
// become the program in runExec.
__attribute__((constructor)) static void join(void)
{
	static const struct { int type; const char *name; } ns[] = {
		{CLONE_NEWUSER, "user"}, {CLONE_NEWNS, "mount"}, {CLONE_NEWPID, "process"},
		{CLONE_NEWUTS, "UTS"}, {CLONE_NEWNET, "network"},
	};
	char dir[PATH_MAX];

	if (getenv("LANCHAT_LAN_JOIN") == NULL)
		return;
	if (getcwd(dir, sizeof dir) == NULL)
		strcpy(dir, "/");
	for (int i = 0; i < 5; i++) {
		int fd = 100 + i; // see joinFD
		// EINVAL is the user namespace that we are in already.
		if (setns(fd, ns[i].type) != 0 && !(i == 0 && errno == EINVAL)) {
			fprintf(stderr, "lan: entering the %s namespace: %s\n", ns[i].name, strerror(errno));
			exit(1);
		}
		close(fd);
	}
	if (chdir(dir) != 0 && chdir("/") != 0) // entering a mount namespace left it
		exit(1);
	child = fork();
	if (child < 0) {
		fprintf(stderr, "lan: starting a process: %s\n", strerror(errno));
		exit(1);
	}
	if (child > 0)
		stand_for_child();
	prctl(PR_SET_PDEATHSIG, SIGKILL);
}
*/
import "C"

// With joinVar set, this program begins with entering the namespaces that it finds
// open from joinFD on: user, mount, PID, UTS, network. It stands in a file with cgo so
// that without cgo there is no program, rather than one that enters nothing.
const (
	joinVar = "LANCHAT_LAN_JOIN"
	joinFD  = 100
)
