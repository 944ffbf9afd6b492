/* The peer of `cargo xtask bench pass-persist`: pass_persist for a table that never changes, as plain C has it. The
 * rows are compiled in, in the order of their OIDs; the row behind the last answer is found without a search. One read
 * and one write for each request.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define MAX_ARCS 128

struct row {
	const char *oid, *type, *value;
};

static const struct row rows[] = {
#include "rows.h"
};

#define ROWS (sizeof(rows) / sizeof(rows[0]))

struct key {
	unsigned length;
	unsigned arcs[MAX_ARCS];
};

static struct key keys[ROWS];

static void parse(const char *text, struct key *key)
{
	key->length = 0;
	while (*text == '.' && key->length < MAX_ARCS) {
		char *end;
		key->arcs[key->length++] = strtoul(text + 1, &end, 10);
		text = end;
	}
}

static int compare(const struct key *a, const struct key *b)
{
	unsigned shorter = a->length < b->length ? a->length : b->length;
	for (unsigned i = 0; i < shorter; i++)
		if (a->arcs[i] != b->arcs[i])
			return a->arcs[i] < b->arcs[i] ? -1 : 1;
	return (a->length > b->length) - (a->length < b->length);
}

/* The first row at or, for a getnext, above this OID. */
static size_t search(const char *oid, int above)
{
	struct key key;
	size_t low = 0, high = ROWS;
	parse(oid, &key);
	while (low < high) {
		size_t middle = low + (high - low) / 2;
		if (compare(&keys[middle], &key) < above)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

static int line(char *buffer, size_t size)
{
	if (!fgets(buffer, size, stdin))
		return 0;
	buffer[strcspn(buffer, "\n")] = 0;
	return 1;
}

int main(void)
{
	char command[4096], oid[4096];
	size_t last = 0;

	for (size_t i = 0; i < ROWS; i++)
		parse(rows[i].oid, &keys[i]);
	while (line(command, sizeof(command))) {
		size_t found = ROWS;
		if (!strcmp(command, "PING")) {
			puts("PONG");
		} else if (!strcmp(command, "set")) {
			if (!line(oid, sizeof(oid)) || !line(oid, sizeof(oid)))
				break;
			puts("not-writable");
		} else {
			if (!line(oid, sizeof(oid)))
				break;
			if (!strcmp(command, "getnext"))
				found = !strcmp(oid, rows[last].oid) ? last + 1 : search(oid, 1);
			else if (!strcmp(command, "get"))
				found = search(oid, 0);
			if (!strcmp(command, "get") && found < ROWS && strcmp(oid, rows[found].oid))
				found = ROWS;
			if (found < ROWS) {
				printf("%s\n%s\n%s\n", rows[found].oid, rows[found].type, rows[found].value);
				last = found;
			} else {
				puts("NONE");
			}
		}
		if (fflush(stdout))
			break;
	}
	return 0;
}
