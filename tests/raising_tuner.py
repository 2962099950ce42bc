"""A tuner that raises in one of NNI's callbacks."""

from strategies.random_search import RandomTuner


class RaisingTuner(RandomTuner):
    def __init__(self, cost_table, where, **limits):
        self.where = where
        self.fail("__init__")
        super().__init__(cost_table, population=4, **limits)

    def fail(self, where):
        if where == self.where:
            raise RuntimeError(f"raised in {where}")

    def update_search_space(self, search_space):
        self.fail("update_search_space")
        super().update_search_space(search_space)

    def generate_parameters(self, parameter_id, **kwargs):
        self.fail("generate_parameters")
        return super().generate_parameters(parameter_id, **kwargs)

    def receive_trial_result(self, parameter_id, parameters, value, **kwargs):
        self.fail("receive_trial_result")
        super().receive_trial_result(parameter_id, parameters, value, **kwargs)

    def trial_end(self, parameter_id, success, **kwargs):
        self.fail("trial_end")
        super().trial_end(parameter_id, success, **kwargs)

    def load_checkpoint(self):
        self.fail("load_checkpoint")
        super().load_checkpoint()

    def import_data(self, data):
        self.fail("import_data")
        super().import_data(data)
