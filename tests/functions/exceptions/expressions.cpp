// Evaluates a sum per line; what is wrong is thrown from any depth, caught by its base, and counted.
#include <exception>
#include <stdio.h>
#include <string.h>

static int alive = 0;

struct Scope {
    Scope() { alive++; }
    ~Scope() { alive--; }
};

struct Wrong : std::exception {
    int at;
    explicit Wrong(int at) : at(at) {}
    const char *what() const noexcept override { return "unexpected"; }
};

struct Division : Wrong {
    using Wrong::Wrong;
    const char *what() const noexcept override { return "division by zero"; }
};

struct Parser {
    const char *text;
    int at = 0;

    long number() {
        Scope scope;
        if (text[at] == '(') {
            at++;
            long value = sum();
            if (text[at] != ')') throw Wrong(at);
            at++;
            return value;
        }
        if (text[at] < '0' || text[at] > '9') throw Wrong(at);
        long value = 0;
        while (text[at] >= '0' && text[at] <= '9') value = value * 10 + (text[at++] - '0');
        return value;
    }

    long product() {
        Scope scope;
        long value = number();
        while (text[at] == '*' || text[at] == '/') {
            char sign = text[at++];
            long other = number();
            if (sign == '/' && other == 0) throw Division(at);
            value = sign == '*' ? value * other : value / other;
        }
        return value;
    }

    long sum() {
        Scope scope;
        long value = product();
        while (text[at] == '+' || text[at] == '-') {
            char sign = text[at++];
            long other = product();
            value = sign == '+' ? value + other : value - other;
        }
        return value;
    }

    long all() {
        long value;
        try {
            value = sum();
        } catch (const Division &) {
            throw;
        } catch (const Wrong &wrong) {
            throw Wrong(wrong.at + 1);
        }
        if (text[at] != 0) throw Wrong(at + 1);
        return value;
    }
};

int main() {
    char line[4096];
    while (fgets(line, sizeof line, stdin)) {
        line[strcspn(line, "\r\n")] = 0;
        try {
            printf("%ld\n", Parser{line}.all());
        } catch (const std::exception &error) {
            const Wrong *wrong = dynamic_cast<const Wrong *>(&error);
            printf("%s at %d\n", error.what(), wrong ? wrong->at : -1);
        }
    }
    printf("%d alive\n", alive);
    return alive;
}
