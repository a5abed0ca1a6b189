// Checkpoints: exact round trips, damage that must be found, what `latest` means, retention, other
// layouts.
#include <gtest/gtest.h>

#include <cstring>

#include "engine/io/safetensors_writer.h"
#include "engine/nn/builder.h"
#include "optim/checkpoint/find.h"
#include "optim/checkpoint/load.h"
#include "optim/checkpoint/save.h"
#include "tests/io/temporary_folder.h"
#include "tests/support/values.h"

namespace ink {
namespace {

namespace fs = std::filesystem;

// An embedding whose rows nothing divides, a matrix and a vector, with optimizer states that have
// moved.
struct Toy {
  explicit Toy(uint64_t seed, DType compute = DType::kF32) {
    SerialBuilder builder(table);
    embedding = builder.embedding("embedding", 257, 6, 0.5f);
    linear = builder.linear("layers.0.wo", 6, 5, {.bias = true, .init_std = 0.5f});
    table.materialize(runtime, compute);
    table.initialize(seed);
    optimizer = std::make_unique<AdamW>(runtime, table, OptimSection{}, 100, 0);
    optimizer->initialize_masters(seed);
    for (int step = 0; step < 2; ++step) {
      for (const auto& p : table.all()) {
        p->leaf()->grad = from_values(
            runtime, normal_values(fmt::format("{} {} {}", p->name, seed, step), p->shape.numel()),
            p->shape, DType::kF32);
        p->leaf()->has_grad = true;
      }
      optimizer->step();
    }
  }
  std::vector<StateTensor> state() { return state_tensors(table, *optimizer); }
  Snapshot snapshot(int64_t step) {
    return take_snapshot(step, {{"optimizer", to_json(optimizer->state())}}, state());
  }
  std::map<std::string, std::vector<uint8_t>> bits() {
    std::map<std::string, std::vector<uint8_t>> all;
    for (const StateTensor& t : state()) {
      const auto* bytes = static_cast<const uint8_t*>(t.tensor.raw());
      all[t.name] = {bytes, bytes + t.tensor.bytes()};
    }
    return all;
  }

  Runtime runtime;
  ParameterTable table;
  std::unique_ptr<Embedding> embedding;
  std::unique_ptr<Linear> linear;
  std::unique_ptr<AdamW> optimizer;
};

SaveOptions options_for(const TemporaryFolder& folder) {
  return {.directory = folder.path(),
          .run_id = "run-7",
          .writer = {"0.1.0", "avx512", "cpu", "none", 2, "dp1"}};
}

// An hf/ folder of one file.
std::vector<ManifestFile> write_hf(const fs::path& directory, const Snapshot&) {
  fs::create_directory(directory);
  SafetensorsWriter writer(directory / "model.safetensors", {{"w", DType::kU8, {3}}});
  writer.write("w", std::as_bytes(std::span("abc", 3)));
  const WrittenFile written = writer.finish();
  return {{"model.safetensors", written.bytes, written.sha256}};
}

TEST(Checkpoint, RoundTripIsExact) {
  for (const DType compute : {DType::kF32, DType::kBF16}) {
    const TemporaryFolder folder;
    Toy saved(1, compute), loaded(2, compute);
    const SaveReport report = save_checkpoint(saved.snapshot(20), options_for(folder));
    EXPECT_EQ(report.path, folder / "step-20");
    EXPECT_GT(report.bytes, snapshot_bytes(saved.snapshot(20)) - (1 << 20));
    ASSERT_NE(loaded.bits(), saved.bits());

    const OpenedCheckpoint opened = open_checkpoint(folder / "step-20");
    load_state(opened.path, opened.manifest, loaded.state());
    EXPECT_EQ(loaded.bits(), saved.bits());
    EXPECT_EQ(saved.bits().count("master/embedding.weight"), compute == DType::kBF16 ? 1u : 0u);
    EXPECT_EQ(opened.manifest.step, 20);
    EXPECT_EQ(opened.manifest.run_id, "run-7");
    EXPECT_TRUE(differences(opened.manifest.writer, options_for(folder).writer).empty());
    const StepState state = step_state_from_json(opened.manifest.trainer["optimizer"], "here");
    const StepState want = saved.optimizer->state();
    EXPECT_EQ(state.updates, 2);
    EXPECT_EQ(state.lr, want.lr);
    EXPECT_EQ(state.bias2, want.bias2);
    EXPECT_EQ(state.grad_norm, want.grad_norm);
    EXPECT_EQ(state.beta2, want.beta2);
  }
}

TEST(Checkpoint, TheRunMayGoOnAfterTheSnapshot) {
  const TemporaryFolder folder;
  Toy saved(1), loaded(2);
  const auto before = saved.bits();
  Snapshot snapshot = saved.snapshot(1);
  for (const StateTensor& t : saved.state()) std::memset(t.tensor.raw(), 0, 8);
  BackgroundSaver saver;
  saver.start(std::move(snapshot), options_for(folder));
  EXPECT_TRUE(saver.running());
  EXPECT_THROW(saver.start({}, options_for(folder)), InternalError);
  ASSERT_TRUE(saver.wait().has_value());
  EXPECT_FALSE(saver.wait().has_value());
  EXPECT_FALSE(saver.poll().has_value());
  const OpenedCheckpoint opened = open_latest(folder.path());
  load_state(opened.path, opened.manifest, loaded.state());
  EXPECT_EQ(loaded.bits(), before);
}

TEST(Checkpoint, FailureInTheBackgroundIsThrown) {
  const TemporaryFolder folder;
  Toy toy(1);
  SaveOptions options = options_for(folder);
  options.write_hf = [](const fs::path&, const Snapshot&) -> std::vector<ManifestFile> {
    throw Error(ExitCode::kIo, "hf", "no room");
  };
  BackgroundSaver saver;
  saver.start(toy.snapshot(1), options);
  expect_error(ExitCode::kIo, {"no room"}, [&] { (void)saver.wait(); });
  EXPECT_TRUE(fs::is_empty(folder.path())) << "a save that failed leaves something";
}

// Every file of a checkpoint, damaged in every way.
class Damage : public testing::Test {
 protected:
  Damage() {
    SaveOptions options = options_for(folder_);
    options.write_hf = write_hf;
    save_checkpoint(Toy(1).snapshot(10), options);
    save_checkpoint(Toy(2).snapshot(20), options);
  }
  std::string read(const fs::path& path) const {
    std::ifstream file(path, std::ios::binary);
    return {std::istreambuf_iterator<char>(file), {}};
  }
  void write(const fs::path& path, const std::string& bytes) const {
    std::ofstream(path, std::ios::binary | std::ios::trunc) << bytes;
  }
  // Opening step-20 fails with these words and `latest` passes on to step-10.
  void expect_found(const std::vector<std::string>& words) {
    expect_error(ExitCode::kBadInput, words, [&] { (void)open_checkpoint(folder_ / "step-20"); });
    const OpenedCheckpoint latest = open_latest(folder_.path());
    EXPECT_EQ(latest.path, folder_ / "step-10");
    EXPECT_EQ(latest.manifest.step, 10);
    ASSERT_EQ(latest.notices.size(), 1u);
    EXPECT_NE(latest.notices[0].find("step-20 is passed over"), std::string::npos);
  }

  TemporaryFolder folder_;
};

TEST_F(Damage, FilesOfTheState) {
  for (const std::string name : {"state/rank-0.safetensors", "hf/model.safetensors"}) {
    const fs::path path = folder_.path() / "step-20" / name;
    const std::string whole = read(path);
    write(path, whole.substr(0, whole.size() - 1));
    expect_found({name, fmt::format("expected {} bytes, got {}", whole.size(), whole.size() - 1)});
    write(path, whole + "x");
    expect_found({name, "bytes"});
    for (const size_t at : {size_t{0}, whole.size() / 2, whole.size() - 1}) {
      std::string flipped = whole;
      flipped[at] = static_cast<char>(flipped[at] ^ 1);
      write(path, flipped);
      expect_found({name, "expected SHA-256 "});
    }
    fs::remove(path);
    expect_found({name});
    write(path, whole);
    EXPECT_EQ(open_latest(folder_.path()).path, folder_ / "step-20");
  }
}

TEST_F(Damage, StateOfAnotherCheckpoint) {
  fs::copy_file(folder_.path() / "step-10/state/rank-0.safetensors",
                folder_.path() / "step-20/state/rank-0.safetensors",
                fs::copy_options::overwrite_existing);
  expect_found({"rank-0.safetensors", "expected SHA-256 "});
}

TEST_F(Damage, Manifest) {
  const fs::path path = folder_.path() / "step-20/manifest.json";
  const std::string whole = read(path);
  for (const size_t kept : {size_t{0}, whole.size() / 3, whole.size() - 3}) {
    write(path, whole.substr(0, kept));
    expect_found({"manifest.json"});
  }
  std::string other = whole;
  const size_t hash = other.find("sha256") + 10;
  other[hash] = other[hash] == '0' ? '1' : '0';
  write(path, other);
  expect_found({"expected SHA-256 "});
  // One bit of every kind of byte: digits, names, the white space between them, the last one.
  for (size_t at = 0; at < whole.size(); at += whole.size() / 97) {
    other = whole;
    other[at] = static_cast<char>(other[at] ^ 1);
    write(path, other);
    expect_found({"step-20/manifest.json"});
  }
  write(path, whole.substr(0, whole.size() - 1));
  expect_found({"manifest.json", "expected SHA-256 "});
  write(path, whole + "\n");
  expect_found({"manifest.json", "expected SHA-256 "});
  fs::remove(path);
  expect_found({"manifest.json"});
  fs::copy_file(folder_.path() / "step-10/manifest.json", path);
  const OpenedCheckpoint latest = open_latest(folder_.path());
  EXPECT_EQ(latest.path, folder_ / "step-10") << "a manifest of another step was believed";
}

TEST_F(Damage, NothingIsLeft) {
  fs::remove(folder_.path() / "step-20/manifest.json");
  fs::remove(folder_.path() / "step-10/manifest.json");
  EXPECT_TRUE(open_latest(folder_.path()).path.empty());
  expect_error(ExitCode::kBadInput, {"expected a run directory with a whole step-N"},
               [&] { (void)open_checkpoint(folder_.path()); });
  expect_error(ExitCode::kBadInput, {"nowhere"},
               [&] { (void)open_checkpoint(folder_ / "nowhere"); });
}

TEST(CheckpointFolders, LeftoversOfKilledSaves) {
  const TemporaryFolder folder;
  save_checkpoint(Toy(1).snapshot(3), options_for(folder));
  folder.write("step-9.tmp-12-00ff/state/rank-0.safetensors", "half");
  folder.write("step-x/manifest.json", "{}");
  folder.write("notes.tmp-1/keep", "mine");
  ASSERT_EQ(find_checkpoints(folder.path()).size(), 1u);
  EXPECT_EQ(open_latest(folder.path()).manifest.step, 3);
  remove_leftovers(folder.path());
  EXPECT_FALSE(fs::exists(folder / "step-9.tmp-12-00ff"));
  EXPECT_TRUE(fs::exists(folder / "notes.tmp-1/keep"));
  EXPECT_TRUE(fs::exists(folder / "step-x"));
  EXPECT_TRUE(fs::exists(folder / "step-3/manifest.json"));
}

TEST(CheckpointFolders, OldOnesGoAfterNewOnesCame) {
  const TemporaryFolder folder;
  SaveOptions options = options_for(folder);
  options.keep = 2;
  Toy toy(1);
  for (const int64_t step : {1, 2, 3, 10, 9}) save_checkpoint(toy.snapshot(step), options);
  std::vector<int64_t> steps;
  for (const FoundCheckpoint& found : find_checkpoints(folder.path())) steps.push_back(found.step);
  EXPECT_EQ(steps, (std::vector<int64_t>{10, 9}));
}

TEST(CheckpointFolders, TheBestStaysBesideTheNewest) {
  const TemporaryFolder folder;
  SaveOptions options = options_for(folder);
  options.keep = 2;
  Toy toy(1);
  const auto save = [&](int64_t step, int64_t best, bool spike = false) {
    options.best = best;
    Snapshot snapshot = toy.snapshot(step);
    set_marks(snapshot.trainer,
              {.best = BestSave{.step = best, .eval_loss = 1.0 / static_cast<double>(best)},
               .loss_spike = spike ? nlohmann::json{{"since", step}} : nlohmann::json()});
    save_checkpoint(snapshot, options);
    std::vector<int64_t> steps;
    for (const FoundCheckpoint& found : find_checkpoints(folder.path()))
      steps.push_back(found.step);
    return steps;
  };
  save(1, 1);
  save(2, 1);
  save(3, 1);
  EXPECT_EQ(save(4, 1), (std::vector<int64_t>{4, 3, 1}));
  EXPECT_EQ(save(5, 5), (std::vector<int64_t>{5, 4})) << "the best of before is one of many";
  EXPECT_EQ(save(6, 5, true), (std::vector<int64_t>{6, 5}));
  const std::vector<FoundCheckpoint> found = find_checkpoints(folder.path());
  EXPECT_EQ(found[0].marks.best->step, 5);
  EXPECT_EQ(found[0].marks.best->eval_loss, 0.2);
  EXPECT_EQ(found[0].marks.loss_spike.at("since"), 6);
  EXPECT_TRUE(found[1].marks.loss_spike.is_null());
}

// A rank that opens nothing itself has the same manifest, and the same tensors by it.
TEST(CheckpointFolders, AManifestTravelsAsText) {
  const TemporaryFolder folder;
  Toy toy(1), loaded(2);
  save_checkpoint(toy.snapshot(4), options_for(folder));
  const OpenedCheckpoint opened = open_latest(folder.path());
  const OpenedCheckpoint heard = checkpoint_from(opened.path, manifest_text(opened.manifest));
  EXPECT_EQ(manifest_text(heard.manifest), manifest_text(opened.manifest));
  load_state(heard.path, heard.manifest, loaded.state());
  EXPECT_EQ(loaded.bits(), toy.bits());
}

TEST(CheckpointFolders, SavingAStepAgainReplacesIt) {
  const TemporaryFolder folder;
  save_checkpoint(Toy(1).snapshot(4), options_for(folder));
  Toy second(2), loaded(3);
  save_checkpoint(second.snapshot(4), options_for(folder));
  const OpenedCheckpoint opened = open_latest(folder.path());
  load_state(opened.path, opened.manifest, loaded.state());
  EXPECT_EQ(loaded.bits(), second.bits());
}

TEST(CheckpointLoad, EveryMissingTensorIsNamed) {
  const TemporaryFolder folder;
  Toy toy(1, DType::kBF16);
  save_checkpoint(toy.snapshot(1), options_for(folder));
  const OpenedCheckpoint opened = open_latest(folder.path());
  ASSERT_EQ(opened.manifest.tensors.size(), 12u);  // param, master, m, v of three parameters
  for (size_t i = 0; i < opened.manifest.tensors.size(); ++i) {
    Manifest without = opened.manifest;
    const std::string name = without.tensors[i].name;
    without.tensors.erase(without.tensors.begin() + static_cast<std::ptrdiff_t>(i));
    expect_error(ExitCode::kBadInput, {name, "got none of that name"},
                 [&] { load_state(opened.path, without, toy.state()); });
    Manifest other = opened.manifest;
    other.tensors[i].shape = {3};
    expect_error(ExitCode::kBadInput, {name, "[3]"},
                 [&] { load_state(opened.path, other, toy.state()); });
    other = opened.manifest;
    other.tensors[i].dtype = DType::kF16;
    expect_error(ExitCode::kBadInput, {name, "f16"},
                 [&] { load_state(opened.path, other, toy.state()); });
    other = opened.manifest;
    other.tensors[i].pieces[0].size[0] -= 1;
    expect_error(ExitCode::kBadInput, {name, "elements"},
                 [&] { load_state(opened.path, other, toy.state()); });
    other = opened.manifest;
    other.tensors[i].pieces[0].local_offset = 1;
    expect_error(ExitCode::kBadInput, {name}, [&] { load_state(opened.path, other, toy.state()); });
  }
}

TEST(CheckpointLoad, EveryFieldOfTheClockIsNeeded) {
  const nlohmann::json whole = to_json(Toy(1).optimizer->state());
  ASSERT_EQ(whole.size(), 12u);
  for (const auto& [key, value] : whole.items()) {
    nlohmann::json without = whole;
    without.erase(key);
    expect_error(ExitCode::kBadInput, {"manifest.json", key},
                 [&] { (void)step_state_from_json(without, "manifest.json"); });
  }
}

// Box [first, first + count) of dimension `dim` of a tensor, cut out on the host.
HostTensor cut(const HostTensor& whole, int dim, int64_t first, int64_t count) {
  HostTensor part = whole;
  Piece& piece = part.pieces[0];
  std::vector<int64_t> local(whole.shape.sizes().begin(), whole.shape.sizes().end());
  local[static_cast<size_t>(dim)] = count;
  piece.begin[static_cast<size_t>(dim)] = first;
  piece.size = local;
  part.local_shape = Shape(local);
  const auto width = static_cast<size_t>(size_of(whole.dtype));
  const auto columns = static_cast<size_t>(whole.shape.rank() == 2 ? whole.shape[1] : 1);
  part.bytes.clear();
  for (size_t i = 0; i < static_cast<size_t>(whole.shape.numel()); ++i) {
    const auto at = static_cast<int64_t>(dim == 0 ? i / columns : i % columns);
    if (at < first || at >= first + count) continue;
    part.bytes.insert(part.bytes.end(),
                      whole.bytes.begin() + static_cast<std::ptrdiff_t>(i * width),
                      whole.bytes.begin() + static_cast<std::ptrdiff_t>((i + 1) * width));
  }
  return part;
}

// What two ranks would have written, each its half of every tensor along one dimension.
Manifest write_halves(const TemporaryFolder& folder, const Snapshot& snapshot, int matrix_dim) {
  Manifest manifest;
  fs::create_directories(folder / "state");
  for (const int rank : {0, 1}) {
    const std::string file = fmt::format("state/rank-{}.safetensors", rank);
    std::vector<HostTensor> parts;
    std::vector<SafetensorsSpec> specs;
    for (const HostTensor& whole : snapshot.tensors) {
      const int dim = whole.shape.rank() == 2 ? matrix_dim : 0;
      const int64_t size = whole.shape[dim], half = (size + 1) / 2;
      parts.push_back(rank == 0 ? cut(whole, dim, 0, half) : cut(whole, dim, half, size - half));
      specs.push_back({whole.name, whole.dtype, parts.back().local_shape});
      manifest.tensors.push_back({whole.name, file, whole.dtype, whole.shape, parts.back().pieces});
    }
    SafetensorsWriter writer(folder / file, specs);
    for (const HostTensor& part : parts) writer.write(part.name, part.bytes);
    (void)writer.finish();
  }
  return manifest;
}

TEST(CheckpointLayouts, HalvesBecomeWholeTensors) {
  for (const int dim : {0, 1}) {
    const TemporaryFolder folder;
    Toy saved(1), loaded(2);
    const Manifest manifest = write_halves(folder, saved.snapshot(1), dim);
    load_state(folder.path(), manifest, loaded.state());
    EXPECT_EQ(loaded.bits(), saved.bits()) << "split along dimension " << dim;
    Manifest one = manifest;
    one.tensors.resize(one.tensors.size() / 2);
    expect_error(ExitCode::kBadInput, {"param/embedding.weight", "expected 1542 elements"},
                 [&] { load_state(folder.path(), one, loaded.state()); });
  }
}

// What adds up to the right number of elements and is not the tensor.
TEST(CheckpointLayouts, PiecesThatOverlapOrLeaveHolesAreRefused) {
  const TemporaryFolder folder;
  Toy saved(1), loaded(2);
  const auto before = loaded.bits();
  // Halves along the six columns, so both have equal sizes.
  const Manifest manifest = write_halves(folder, saved.snapshot(1), 1);
  const auto refuses = [&](const Manifest& damaged, const std::vector<std::string>& words) {
    expect_error(ExitCode::kBadInput, words,
                 [&] { load_state(folder.path(), damaged, loaded.state()); });
  };
  const size_t second = manifest.tensors.size() / 2;
  ASSERT_EQ(manifest.tensors[second].name, "param/embedding.weight");
  Manifest doubled = manifest;
  doubled.tensors[second].pieces = manifest.tensors[0].pieces;
  refuses(doubled, {"param/embedding.weight", "every element of [257, 6] once",
                    "[257, 3] at [0, 0] over [257, 3] at [0, 0]"});
  Manifest shifted = manifest;
  shifted.tensors[second].pieces[0].begin = {0, 2};
  refuses(shifted, {"param/embedding.weight", "[257, 3] at [0, 2] over [257, 3] at [0, 0]"});
  Manifest outside = manifest;
  outside.tensors[second].pieces[0].begin = {0, 4};
  refuses(outside, {"param/embedding.weight", "inside [257, 6]", "[257, 3] at [0, 4]"});
  // Two pieces of one file that claim the same bytes of it.
  Manifest same_bytes = manifest;
  same_bytes.tensors[second].pieces = {{{0, 3}, {128, 3}, 0}, {{128, 3}, {129, 3}, 0}};
  refuses(same_bytes, {"param/embedding.weight", "fill the 771 F32 elements"});
  same_bytes.tensors[second].pieces[1].local_offset = 128 * 3;
  Toy whole(3);
  load_state(folder.path(), same_bytes, whole.state());
  EXPECT_EQ(whole.bits(), saved.bits());
  EXPECT_EQ(loaded.bits(), before) << "a refused load changed something";
}

// Halves along columns into one rank's rows 100 ... 256 and 3 ... 9, two boxes of its own.
TEST(CheckpointLayouts, HalvesBecomeOtherPieces) {
  const TemporaryFolder folder;
  Toy saved(1);
  const Manifest manifest = write_halves(folder, saved.snapshot(1), 1);
  Parameter record = whole_parameter("embedding.weight", {257, 6}, {});
  record.pieces = {{{100, 0}, {157, 6}, 0}, {{3, 0}, {7, 6}, 157 * 6}};
  record.local_shape = {164, 6};
  Runtime runtime;
  const Tensor tensor = zeros(runtime, record.local_shape, DType::kF32);
  const StateTensor wanted{"exp_avg/embedding.weight", &record, tensor};
  load_state(folder.path(), manifest, {&wanted, 1});
  const Values whole = to_values(saved.optimizer->slots()[0].m), got = to_values(tensor);
  for (size_t i = 0; i < got.size(); ++i) {
    const size_t from = i < 157 * 6 ? i + 600 : i - 157 * 6 + 18;
    ASSERT_EQ(got[i], whole[from]) << "element " << i;
  }
}

}  // namespace
}  // namespace ink
